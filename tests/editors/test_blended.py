"""Blended Diffusion: its gradient, its noise, what it leaves alone, and its two algorithms."""

import dataclasses

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from editing import inputs_for, sampling_for

from imagic_jax.backbones.contracts import Extra
from imagic_jax.backbones.generate import Sampling, denoiser, seed_keys
from imagic_jax.diffusion.inversion import row
from imagic_jax.diffusion.schedule import padded_grid
from imagic_jax.editors import blended, contracts, sdedit
from imagic_jax.editors.blended import Config, Guide, LocalConfig, Weights
from imagic_jax.editors.contracts import Inputs
from imagic_jax.errors import UserError
from imagic_jax.runtime.compilation import counted

IMAGE = jax.random.uniform(jax.random.key(5), (1, 4, 4, 3), minval=-1.0)
LEFT = jnp.zeros((1, 4, 4, 1)).at[:, :, :2].set(1.0)
HALF = jnp.zeros((1, 4, 4, 1)).at[:, :, 2:].set(1.0)
CONFIG = Config(views=2)
UNGUIDED = {"clip": 0.0, "range": 0.0, "background": 0.0}


def render(scorer, mask=HALF, config=CONFIG, strengths=(0.75,), seeds=(0, 1, 2), steps=20):
    inputs = Inputs(IMAGE, (analytic.cond(0.4),), (analytic.cond(0.2),), mask=mask, clip=scorer)
    sampling = Sampling(steps=(steps,), guidance=(None,), batch=2)
    args = (inputs, None, config, sampling, strengths, seeds)
    return blended.render(analytic.cascade(), analytic.PARAMS, *args)


def test_it_needs_a_mask_and_clip(scorer):
    with pytest.raises(UserError, match="blended needs a mask"):
        render(scorer, mask=None)
    with pytest.raises(UserError, match="local_clip_guided needs a CLIP model"):
        render(None, config=LocalConfig())


def test_an_empty_mask_gives_the_picture_to_the_bit(scorer):
    drawn = render(scorer, jnp.zeros((1, 4, 4, 1)), strengths=(0.0, 0.75))
    np.testing.assert_array_equal(drawn, np.broadcast_to(IMAGE, drawn.shape))


def test_a_mask_of_ones_without_losses_is_ancestral_sampling(scorer):
    drawn = render(scorer, jnp.ones((1, 4, 4, 1)), Config(views=2, **UNGUIDED))
    inputs = Inputs(IMAGE, (analytic.cond(0.2),), (analytic.cond(0.2),))
    sampling = Sampling(steps=(20,), guidance=(None,), batch=2, sampler="ddpm")
    args = (inputs, None, sdedit.Config(), sampling, (0.75,), (0, 1, 2))
    plain = sdedit.render(analytic.cascade(), analytic.PARAMS, *args)
    np.testing.assert_allclose(drawn, plain, atol=1e-6)


@pytest.mark.parametrize(("level", "lag"), [("prev", 0), ("t", 1)])
def test_around_the_mask_lies_the_picture_noised_to_the_level_said(scorer, level, lag):
    stage, done = analytic.GaussianStage(), 6
    levels, _ = padded_grid(stage.schedule, 20, 5)
    x = blended.edit(
        stage, {}, scorer.reader, guide(scorer, jnp.zeros((1, 4, 4, 1))), analytic.cond(0.2),
        seed_keys(range(512), 0), levels, jnp.int32(done),
        views=1, sampler="ddpm", blend=True, background_level=level,
    )  # fmt: skip
    abar = levels.abar_next[done - 1 - lag]
    np.testing.assert_allclose(x.mean(0), jnp.sqrt(abar) * IMAGE[0], atol=0.15)
    np.testing.assert_allclose(x.std(0).mean(), jnp.sqrt(1 - abar), rtol=0.01)


def guide(scorer, mask, weights=None):
    return Guide(scorer.params, scorer.text, IMAGE, mask, weights or Weights())


def test_the_gradient_is_that_of_the_loss(scorer):
    with jax.enable_x64(True):
        wide = lambda tree: jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), tree)  # noqa: E731
        weights = Weights(clip=1000.0, range=50.0, background=200.0)
        stage = analytic.GaussianStage(bend=0.2)
        level = wide_level(row(padded_grid(stage.schedule, 20, 8)[0], 0))
        cond = jax.tree.map(lambda a: jnp.repeat(a, 2, 0), analytic.cond(0.2))
        denoise = denoiser(stage, {}, wide(cond), None, Extra(), jnp.float32(1.0))
        wide_model = scorer.reader.model.clone(dtype=jnp.float64)
        reader = dataclasses.replace(scorer.reader, model=wide_model)
        keys = seed_keys([0, 1], 0)
        directions = jax.random.normal(jax.random.key(2), (2, 2, 4, 4, 3), jnp.float64)
        x, v = 1.5 * directions[0], directions[1]

        @jax.jit
        @jax.value_and_grad
        def loss(x, mix):
            against = wide(guide(scorer, HALF, weights._replace(mix=mix)))
            return blended.loss(stage, {}, reader, denoise, against, 3, x, level, keys)[0]

        step = 1e-5
        for mix in (0.0, 1.0):
            measured = (loss(x + step * v, mix)[0] - loss(x - step * v, mix)[0]) / (2 * step)
            expected = jnp.vdot(loss(x, mix)[1], v)
            assert abs(expected) > 1.0
            np.testing.assert_allclose(measured, expected, rtol=1e-3)


def wide_level(level):
    return level._replace(
        abar=jnp.float64(level.abar), one_minus_abar=jnp.float64(level.one_minus_abar)
    )


@pytest.mark.parametrize("sampler", ["ddpm", pytest.param("ddim", marks=pytest.mark.slow)])
def test_the_losses_pull(scorer, sampler):
    """Towards the text, and, in algorithm 1, towards the picture around the mask."""
    far = lambda drawn: float(  # noqa: E731
        blended.distance_of_views(*scorer, jnp.asarray(drawn[0]) * HALF, seed_keys([0] * 8, 0), 1)
        .mean()
    )  # fmt: skip
    seeds = range(8)
    free, led = (
        far(render(scorer, config=Config(views=2, clip=w, sampler=sampler), seeds=seeds))
        for w in (0.0, 1000.0)
    )
    assert led < free - 0.01
    away = [
        np.abs(
            render(scorer, config=LocalConfig(views=2, background=w, sampler=sampler), seeds=seeds)
            - np.asarray(IMAGE)
        )[:, :, :, :, :2].mean()
        for w in (0.0, 1000.0)
    ]
    assert 0 < away[1] < 0.8 * away[0]


def test_another_text_weight_mask_or_strength_compiles_nothing(scorer):
    render(scorer, strengths=(0.4,))
    other = scorer._replace(text=np.roll(scorer.text, 1, axis=1))
    with counted() as seen:
        render(other, LEFT, Config(views=2, clip=10.0, mix=0.0), strengths=(0.8,), seeds=(5,))
    assert seen.programs == 0


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_extrapolation_moves_the_canvas(side):
    inputs = blended.extrapolation(Inputs(IMAGE, (), ()), 0.25, side)
    axis, far = (1 if side in ("top", "bottom") else 2), side in ("right", "bottom")
    image, old = (np.moveaxis(np.asarray(a), axis, 0) for a in (inputs.image, IMAGE))
    mask = np.moveaxis(np.asarray(inputs.mask), axis, 0)
    if not far:
        image, old, mask = image[::-1], old[::-1], mask[::-1]
    np.testing.assert_array_equal(image[:3], old[1:])
    np.testing.assert_array_equal(image[3], old[3])  # reflected
    assert not mask[:3].any()
    assert mask[3].all()


def test_a_background_is_what_the_mask_leaves():
    turned = blended.background(Inputs(IMAGE, (), (), mask=HALF))
    np.testing.assert_array_equal(turned.mask, 1 - HALF)


def test_runs_on_a_model(slow_model, scorer):
    size = slow_model.cascade.size
    mask = np.zeros((1, size, size, 1))
    mask[:, : size // 2] = 1
    inputs, sampling = inputs_for(slow_model, mask=mask, clip=scorer), sampling_for(slow_model)
    args = (slow_model.cascade, slow_model.params, inputs)
    base = blended.render(*args, None, Config(views=2), sampling, [0.7], [0, 1])
    drawn = contracts.enlarge(*args, base, [0, 1], sampling)[0]
    np.testing.assert_array_equal(
        drawn[:, size // 2 :], np.broadcast_to(inputs.image[0], drawn.shape)[:, size // 2 :]
    )
    assert np.isfinite(drawn).all()
    assert np.abs(drawn[0] - drawn[1])[: size // 2].max() > 1e-2
