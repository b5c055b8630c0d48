"""Masks from known factors: exact where the picture is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import masks, nuisance
from imagic_jax.flatland.reader import render_list
from imagic_jax.flatland.render import subject_cover

SIZE = 32


def law(seed=0):
    return nuisance.sample(jax.random.key(seed), "wide", marks=True)


@pytest.mark.parametrize("cls", fx.CLASSES)
def test_the_subject_covers_what_its_background_does_not_show_through(cls):
    """Where nothing is covered, another subject leaves the picture alone, but for shadows."""
    f, u = fx.make(cls=cls), law()
    cover = np.asarray(subject_cover(f, u, SIZE))
    assert cover.min() == 0
    assert cover.max() > 0.99
    # Another colour of the light body changes only what is covered, and most of that.
    other = fx.with_factor(f, "colour", 4)
    before, after = render_list([f, other], u, SIZE)
    changed = np.abs(before - after).max(-1)
    assert changed[cover == 0].max() < 1e-6
    # Far away, the subject covers nothing of the picture.
    away = u._replace(position=jnp.array([5.0, 5.0]))
    assert np.asarray(subject_cover(f, away, SIZE)).max() == 0


def test_an_edits_mask_holds_all_of_the_change_and_a_margin():
    f, u = fx.make(cls="dog", state="standing"), law(2)
    g = fx.make(cls="dog", state="jumping")
    mask = masks.edit_mask(f, g, u, SIZE)
    before, after = render_list([f, g], u, SIZE)
    changed = np.abs(before - after).max(-1) > masks.CHANGED
    assert set(np.unique(mask)) == {0.0, 1.0}
    assert mask[changed].min() == 1
    np.testing.assert_array_equal(mask, masks.grown(changed, SIZE))
    assert masks.grown(np.eye(SIZE, dtype=bool) & False, SIZE).max() == 0
    corner = np.zeros((SIZE, SIZE), bool)
    corner[0, 0] = True
    assert masks.grown(corner, SIZE).sum() == 4  # does not come out on the other side


def test_texts_change_the_factors_that_they_name():
    f = fx.make(cls="dog", state="sitting", colour="red", accessory="hat")
    assert masks.told(f, "a blue dog") == f._replace(colour=fx.COLOURS.index("blue"))
    assert masks.told(f, "a red dog sitting") == f
    assert masks.told(f, "nothing known") == f
    car = masks.told(f, "a car with a roof in the snow")
    assert fx.is_valid(car)
    assert fx.name_of(car, "cls") == "car"
    assert fx.name_of(car, "place") == "snow"
