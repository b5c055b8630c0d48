"""The CLIP distance that guides: its range, its gradient, and the warped views."""

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest

from imagic_jax.metrics import clip_guidance
from imagic_jax.metrics.clip_guidance import open_scorer, spherical_distance, warp
from imagic_jax.weights import WeightsError

distance = jax.jit(clip_guidance.distance, static_argnums=0)
of_views = jax.jit(clip_guidance.distance_of_views, static_argnums=(0, 5))
PICTURES = jax.random.uniform(jax.random.key(0), (2, 16, 16, 3), minval=-1.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return published.write_clip(tmp_path_factory.mktemp("clip") / "pair")


@pytest.fixture(scope="module")
def scorer(folder):
    return open_scorer(folder, "a red dog")


def test_the_distance_is_half_the_squared_angle():
    angle = jnp.linspace(0.0, np.pi, 50)
    u = jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
    v = jnp.array([[1.0, 0.0]])
    far = spherical_distance(u, v)
    # near the opposite point float32 has few digits left of the arc sine
    np.testing.assert_allclose(far[:-1], angle[:-1] ** 2 / 2, rtol=1e-3, atol=1e-5)
    assert far[0] == 0
    assert np.all(np.diff(far) > 0)
    assert far[-1] <= np.pi**2 / 2
    slope = jax.grad(lambda u: spherical_distance(u, v).sum())(u)
    assert np.isfinite(slope).all()


def test_a_view_that_changes_nothing_is_the_picture():
    np.testing.assert_allclose(warp(PICTURES[0], jnp.eye(3)), PICTURES[0], atol=1e-5)


def test_a_view_turned_by_a_quarter_is_the_picture_turned():
    turn = jnp.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned = warp(PICTURES[0], turn)
    np.testing.assert_allclose(turned, jnp.rot90(PICTURES[0], 1), atol=1e-5)


def test_the_projective_map_carries_corners_to_corners():
    ends = clip_guidance._CORNERS * np.array([[0.9, 0.8], [0.7, 1.0], [0.5, 0.6], [1.0, 0.95]])
    ends = jnp.asarray(ends, jnp.float32)
    view = clip_guidance._onto_corners(ends)
    there = jnp.concatenate([clip_guidance._CORNERS, jnp.ones((4, 1))], axis=1) @ view.T
    np.testing.assert_allclose(there[:, :2] / there[:, 2:], ends, atol=1e-5)


def test_one_view_is_the_picture_itself_and_more_are_a_mean(scorer, monkeypatch):
    keys = jax.random.split(jax.random.key(1), 2)
    plain = distance(*scorer, PICTURES)
    one = of_views(*scorer, PICTURES, keys, 1)
    np.testing.assert_allclose(one, plain, atol=1e-6)
    warped = of_views(*scorer, PICTURES, keys, 3)
    assert np.abs(warped - plain).max() > 1e-4
    monkeypatch.setattr(clip_guidance, "random_view", lambda key: jnp.eye(3))
    same = of_views(*scorer, PICTURES, keys, 4)  # another number: traced again
    np.testing.assert_allclose(same, plain, atol=1e-5)


def test_a_picture_draws_its_own_views(scorer):
    keys = jax.random.split(jax.random.key(1), 2)
    both = of_views(*scorer, PICTURES, keys, 3)
    other = of_views(*scorer, PICTURES.at[0].set(0.0), keys.at[0].set(keys[1]), 3)
    np.testing.assert_allclose(both[1:], other[1:], atol=1e-5)
    assert np.abs(both[0] - other[0]) > 1e-4


def test_nothing_is_far_from_the_empty_text(folder):
    scorer = open_scorer(folder, " ")
    slope = jax.grad(lambda p: distance(*scorer, p).sum())(PICTURES)
    assert not np.any(slope)


def test_other_folders_are_refused(tmp_path, folder):
    with pytest.raises(WeightsError):
        open_scorer(tmp_path / "nowhere", "a dog")
    published._part(tmp_path / "tower", "clip_text_sd1", 1)
    with pytest.raises(WeightsError, match="no CLIP pair"):
        open_scorer(tmp_path / "tower", "a dog")
