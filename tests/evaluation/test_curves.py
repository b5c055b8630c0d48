"""Summaries of sweeps by hand."""

import numpy as np
import pytest

from imagic_jax.evaluation import curves, statistics


def one(*values):
    """A curve of one source and one seed."""
    return np.array(values, float)[None, None]


def test_the_oracle_is_no_worse_than_any_fixed_strength():
    joint = np.array([[[0, 1, 0]], [[0, 0, 1]]], float)
    assert curves.fixed(joint, 1) == 0.5
    assert curves.oracle(joint) == 1.0
    assert curves.best(joint, joint) == 1  # a tie goes to the weaker
    assert curves.best(joint, np.array([[[0, 0, 1.0]]] * 2)) == 2


def test_missing_seeds_are_left_out_of_means():
    values = np.array([[[0.0, 1.0], [np.nan, 0.0]], [[1.0, np.nan], [1.0, np.nan]]])
    np.testing.assert_allclose(curves.mean_curve(values), [0.5, 0.5])


def test_hypervolume_of_a_staircase_and_under_its_hull():
    kept, done = one(1.0, 0.5, 0.0), one(0.0, 0.5, 1.0)
    assert curves.hypervolume(kept, done) == pytest.approx(0.25)
    assert curves.hull_hypervolume(kept, done) == pytest.approx(0.5)
    assert curves.hypervolume(one(1.0), one(1.0)) == 1.0
    assert curves.hull_hypervolume(one(1.0, 0.2), one(1.0, 1.0)) == pytest.approx(1.0)
    two = one(0.9, 0.4), one(0.3, 0.8)
    assert curves.hypervolume(*two) == pytest.approx(0.4 * 0.8 + 0.5 * 0.3)


def test_a_dominated_strength_adds_nothing():
    a = curves.hypervolume(one(0.9, 0.4), one(0.3, 0.8))
    assert curves.hypervolume(one(0.9, 0.4, 0.3), one(0.3, 0.8, 0.7)) == pytest.approx(a)


def test_matched_preservation_interpolates_and_takes_the_strongest():
    kept, done = one(1.0, 0.8, 0.4), one(0.0, 0.4, 0.8)
    assert curves.at_preservation(kept, done, 0.6) == pytest.approx(0.6)
    assert curves.at_preservation(kept, done, 1.0) == 0.0
    assert np.isnan(curves.at_preservation(kept, done, 0.3))
    back = curves.at_preservation(one(0.9, 0.7, 0.9), one(0.0, 0.5, 1.0), 0.8)
    assert back == pytest.approx(0.75)


def test_onset_drift_and_window():
    done = np.array([[False, True, True], [False, False, False]])
    np.testing.assert_array_equal(curves.onset(done), [1, 3])
    kept = np.array([[1.0, 1.0, 0.8], [1.0, 1.0, 1.0]])
    identity = np.array([[1.0, 1.0, 1.0], [1.0, 0.5, 1.0]])
    shift = np.array([[0.0, 2.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_array_equal(curves.drift(kept, identity, shift, 5 / 6), [1, 1])
    np.testing.assert_allclose(curves.window(np.array([[0.0, 1.0, 1.0]])), [2 / 3])


def test_summaries_are_statistics_of_the_bootstrap():
    rng = np.random.default_rng(0)
    joint = (rng.random((20, 3, 5)) < 0.4).astype(float)
    found = statistics.bootstrap(joint, lambda v: curves.fixed(v, 2), resamples=300)
    assert found.estimate == pytest.approx(joint[..., 2].mean())
    assert found.low < found.estimate < found.high
    pair = np.stack([joint, 1 - joint], axis=-2)  # (sources, seeds, 2, strengths)
    area = statistics.bootstrap(
        pair, lambda v: curves.hypervolume(v[..., 0, :], v[..., 1, :]), resamples=300
    )
    assert area.low <= area.estimate <= area.high
