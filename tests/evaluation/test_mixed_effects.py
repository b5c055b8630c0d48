"""The mixed-effects check: closed forms, quadrature, and raters whose habits are known."""

import numpy as np
import pytest
from scipy.special import expit, logit

from imagic_jax.evaluation import mixed_effects, study_analysis
from imagic_jax.evaluation.study_answers import Choice


def test_raters_who_are_all_alike_give_the_plain_log_odds():
    """Every rater, picture and side has the same share: nothing is left for random effects."""
    raters, pictures = (g.ravel() for g in np.meshgrid(np.arange(8), np.arange(8), indexing="ij"))
    won = (raters + pictures) % 4 != 0
    left = (raters + pictures) // 4 % 2 == 0
    found = mixed_effects.fit(won, left, raters, pictures)
    assert found.rate == pytest.approx(0.75, abs=1e-4)
    half = 1.96 / np.sqrt(64 * 0.75 * 0.25)
    assert found.low == pytest.approx(expit(logit(0.75) - half), abs=2e-3)
    assert found.high == pytest.approx(expit(logit(0.75) + half), abs=2e-3)
    assert found.rater_sd < 1e-3
    assert found.picture_sd < 1e-3


def test_laplace_is_near_the_integral():
    """One rater's effect alone: Gauss-Hermite quadrature of the same likelihood."""
    rng = np.random.default_rng(0)
    raters = np.repeat(np.arange(6), 25)
    y = (rng.random(150) < expit(0.5 + np.array([1.0, -1, 0.5, -0.5, 1.5, 0])[raters])) * 1.0
    fixed, groups = np.ones((150, 1)), [np.eye(6)[raters]]
    node, weight = np.polynomial.hermite_e.hermegauss(60)
    for spread in (0.3, 1.0):
        found = mixed_effects.mode(y, fixed, groups, np.array([spread]))
        told = found.effects[0] + spread * node
        exact = 0.0
        for r in range(6):
            mine = y[raters == r]
            log = mine.sum() * told - len(mine) * np.logaddexp(0, told)
            exact += np.log((weight * np.exp(log)).sum() / np.sqrt(2 * np.pi))
        assert found.log_likelihood == pytest.approx(exact, abs=0.05)


def simulated(seed, middle=0.8, rater_sd=1.0, picture_sd=0.5, side=0.6):
    rng = np.random.default_rng(seed)
    raters, pictures = (g.ravel() for g in np.meshgrid(np.arange(60), np.arange(40), indexing="ij"))
    u, v = rng.normal(0, rater_sd, 60), rng.normal(0, picture_sd, 40)
    left = rng.random(raters.size) < 0.5
    told = middle + u[raters] + v[pictures] + side * np.where(left, 0.5, -0.5)
    return rng.random(raters.size) < expit(told), left, raters, pictures


def test_the_habits_that_made_the_answers_are_found():
    found = mixed_effects.fit(*simulated(0))
    assert found.low < expit(0.8) < found.high
    assert found.rater_sd == pytest.approx(1.0, abs=0.3)
    assert found.picture_sd == pytest.approx(0.5, abs=0.2)
    assert found.side == pytest.approx(0.6, abs=0.25)


@pytest.mark.parametrize("seed", range(8))
def test_no_other_spreads_are_likelier(seed):
    """Small studies, where zero is near and flat, against every pair of spreads of a grid."""
    size = (8, 12)[seed % 2]
    won, left, raters, pictures = (a.reshape(60, 40)[:size, :size].ravel() for a in simulated(seed))
    found = mixed_effects.fit(won, left, raters, pictures)
    fixed = np.stack([np.ones(len(won)), np.where(left, 0.5, -0.5)], axis=1)
    groups = [np.eye(size)[g] for g in (raters, pictures)]

    def likelihood(*spread):
        return mixed_effects.mode(won * 1.0, fixed, groups, np.array(spread)).log_likelihood

    grid = np.linspace(0, 2.5, 11)
    best = max(likelihood(a, b) for a in grid for b in grid)
    assert likelihood(found.rater_sd, found.picture_sd) >= best - 1e-6


def test_intervals_cover_as_often_as_they_say():
    """A smaller study, 60 times; 95 % of 60 are 57, and five standard deviations less are 48."""
    covered = 0
    for seed in range(60):
        won, left, raters, pictures = (a.reshape(60, 40)[:12, :12].ravel() for a in simulated(seed))
        found = mixed_effects.fit(won, left, raters, pictures)
        covered += found is not None and found.low < expit(0.8) < found.high
    assert covered >= 48


def test_answers_that_are_all_alike_have_no_finite_answer():
    every = np.ones(12, bool)
    index = np.arange(12) % 3
    assert mixed_effects.fit(every, index == 0, index, index) is None
    assert mixed_effects.fit(~every, index == 0, index, index) is None
    assert mixed_effects.fit(index == 0, index == 0, np.arange(12), index) is None  # by side


@pytest.mark.parametrize("on_left", [True, False])
def test_one_side_alone_cannot_be_told_from_preference(on_left):
    """As in the first few answers of a study."""
    index = np.arange(2)
    left = np.full(2, on_left)
    assert mixed_effects.fit(index == 0, left, index, index) is None


def test_the_report_of_a_study_has_it_beside_the_bootstrap():
    won, left, raters, pictures = (a.reshape(60, 40)[:20, :20].ravel() for a in simulated(1))
    choices = [
        Choice(f"r{r}", f"i{p}", f"g{p}", *(("a", "b") if w else ("b", "a")), bool(w == s), 2.0)
        for w, s, r, p in zip(won, left, raters, pictures, strict=True)
    ]
    (pair,) = study_analysis.mixed(choices).items()
    assert pair[0] == "a : b"
    assert pair[1] == mixed_effects.fit(won, left, raters, pictures)
    (boot,) = study_analysis.preferences(choices)
    # Of the typical rater, further from a half than the mean over raters; as wide an interval.
    assert pair[1].rate > boot.rate > 0.5
    assert (pair[1].high - pair[1].low) / (boot.high - boot.low) == pytest.approx(1, abs=0.35)
