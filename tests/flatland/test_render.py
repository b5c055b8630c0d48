"""The renderer is a pure function of factors and nuisance, and draws what they say."""

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import nuisance, splits
from imagic_jax.flatland.reader import render_list
from imagic_jax.flatland.render import render_class


def draw(f, seed=0, law="train", marks=False, size=32):
    u = nuisance.sample(jax.random.key(seed), law, marks)
    return render_list([f], u, size)[0]


def test_every_class_renders_in_range_with_a_visible_subject():
    u = nuisance.sample(jax.random.key(0))
    pictures = render_list([fx.make(cls=c) for c in fx.CLASSES], u, 32)
    assert pictures.shape == (6, 32, 32, 3)
    assert pictures.min() >= 0.0
    assert pictures.max() <= 1.0
    for a in range(6):
        for b in range(a):
            assert np.square(pictures[a] - pictures[b]).sum() > 5.0


def test_same_factors_and_nuisance_give_the_same_bits():
    f = fx.make(cls="dog", state="sitting", colour="blue")
    np.testing.assert_array_equal(draw(f), draw(f))


def test_one_class_at_a_time_equals_the_general_renderer():
    for seed, f in enumerate(splits.combinations("validation")[::67]):
        u = nuisance.sample(jax.random.key(seed), "wide", marks=True)
        arrays = fx.Factors(*(jnp.int32(v) for v in f))
        one = jax.jit(lambda f, u, c=int(f.cls): render_class(c, f, u, 32))(arrays, u)
        np.testing.assert_allclose(one, render_list([f], u, 32)[0], atol=2e-5)


def test_changing_one_factor_leaves_the_rest_of_the_picture_alone():
    """Counterfactuals: same nuisance, one factor; the corners hold background only."""
    f = fx.make(cls="ball", colour="red")
    u = nuisance.sample(jax.random.key(3))._replace(position=jnp.array([0.5, 0.585]))
    red, blue = render_list([f, fx.make(cls="ball", colour="blue")], u, 32)
    assert np.abs(red - blue).max() > 0.3
    np.testing.assert_array_equal(red[:4], blue[:4])
    np.testing.assert_array_equal(red[:, :2], blue[:, :2])


def test_marks_are_painted_only_when_asked_and_differ_by_bits():
    f = fx.make(cls="car")
    u = nuisance.sample(jax.random.key(5), marks=True)
    flipped = u._replace(mark=1.0 - u.mark)
    bare = u._replace(mark_on=jnp.float32(0.0))
    marked, other = (render_list([f], v, 64)[0] for v in (u, flipped))
    plain, plain_other = (
        render_list([f], v._replace(mark_on=jnp.float32(0.0)), 64)[0] for v in (bare, flipped)
    )
    np.testing.assert_array_equal(plain, plain_other)
    assert np.abs(marked - other).max() > 0.6
    assert np.abs(marked - plain).max() > 0.2


def test_a_picture_is_the_same_scene_at_every_size():
    f = fx.make(cls="flower", state="bloom", colour="pink")
    fine = draw(f, size=64)
    coarse = fine.reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(coarse - draw(f, size=32)).mean() < 0.02


def test_the_wide_law_adds_ground_texture_that_training_never_shows():
    trained, wide = (
        nuisance.sample(jax.random.key(0), law).texture[0] for law in ("train", "wide")
    )
    assert float(trained) == 0.0
    assert float(wide) > 0.01
