"""Blended Latent Diffusion: exact outside the mask, SDEdit where there is none."""

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from editing import inputs_for, sampling_for

from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors import blended_latent, contracts, ranking, sdedit
from imagic_jax.editors.blended_latent import Config, Restoring
from imagic_jax.editors.contracts import Inputs
from imagic_jax.errors import UserError
from imagic_jax.metrics.clip_guidance import distance
from imagic_jax.runtime.compilation import counted

IMAGE = jax.random.uniform(jax.random.key(5), (1, 4, 4, 3), minval=-1.0)
ONE = jnp.zeros((1, 4, 4, 1)).at[:, 1, 2].set(1.0)
OTHER = jnp.ones((1, 4, 4, 1)).at[:, 1, 2].set(0.0)
CONFIG = Config()


def render(mask, config=CONFIG, strengths=(0.75,), seeds=(0, 1, 2), bend=0.0, clip=None, **how):
    inputs = Inputs(IMAGE, (analytic.cond(0.4),), (analytic.cond(0.0),), mask=mask, clip=clip)
    sampling = Sampling(**{"steps": (20,), "guidance": (2.0,), "batch": 2} | how)
    args = (inputs, None, config, sampling, strengths, seeds)
    return blended_latent.render(analytic.cascade(bend=bend), analytic.PARAMS, *args)


def test_without_a_mask_it_is_refused():
    with pytest.raises(UserError, match="blended_latent needs a mask"):
        render(None)


def test_an_empty_mask_gives_the_picture_to_the_bit():
    drawn = render(jnp.zeros((1, 4, 4, 1)), strengths=(0.0, 0.5, 1.0))
    np.testing.assert_array_equal(drawn, np.broadcast_to(IMAGE, drawn.shape))


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_a_mask_of_ones_is_sdedit(sampler):
    drawn = render(jnp.ones((1, 4, 4, 1)), sampler=sampler)
    inputs = Inputs(IMAGE, (analytic.cond(0.4),), (analytic.cond(0.0),))
    sampling = Sampling(steps=(20,), guidance=(2.0,), batch=2, sampler=sampler)
    args = (inputs, None, sdedit.Config(), sampling, (0.75,), (0, 1, 2))
    plain = sdedit.render(analytic.cascade(), analytic.PARAMS, *args)
    np.testing.assert_allclose(drawn, plain, atol=1e-6)


def test_a_thin_mask_is_drawn_in_a_wider_one_first():
    plain, wider = (render(ONE, Config(shrinking=n), bend=0.3)[0] for n in (0, 2))
    outside = np.asarray(ONE[0, ..., 0] == 0)
    for drawn in (plain, wider):
        np.testing.assert_array_equal(drawn[:, outside], np.asarray(IMAGE)[:, outside][[0] * 3])
    assert np.abs(plain - wider).max() > 1e-3


def test_the_candidate_nearest_to_the_text_is_kept(scorer):
    chosen = render(ONE, Config(candidates=3), seeds=(4, 9), clip=scorer)[0]
    for seed, picture in zip((4, 9), chosen, strict=True):
        others = ranking.candidate_seeds([seed], 3)
        assert others[0] == seed
        assert len(set(others)) == 3
        drawn = render(ONE, seeds=others)[0]
        far = distance(*scorer, jnp.asarray(drawn) * ONE)
        np.testing.assert_array_equal(picture, drawn[int(far.argmin())])
    with pytest.raises(UserError, match="ranked by a CLIP model"):
        render(ONE, Config(candidates=2))
    with pytest.raises(UserError, match="at least 1"):
        render(ONE, Config(candidates=0))


def test_another_mask_strength_seed_or_guidance_compiles_nothing():
    render(ONE, strengths=(0.5, 0.9))
    with counted() as seen:
        render(OTHER, strengths=(0.3,), seeds=(7,), guidance=(5.0,))
    assert seen.programs == 0


def test_runs_on_a_model_and_keeps_what_is_outside_at_every_size(model):
    size = model.cascade.size
    mask = np.zeros((1, size, size, 1))
    mask[:, size // 4 : size // 2, size // 4 : size // 2] = 1
    mask[:, size // 2] = 0.5  # a soft edge
    inputs = inputs_for(model, mask=mask)
    sampling = sampling_for(model)
    args = (None, Config(shrinking=1), sampling, [0.7], [0, 1])
    base = blended_latent.render(model.cascade, model.params, inputs, *args)
    drawn = contracts.enlarge(model.cascade, model.params, inputs, base, [0, 1], sampling)[0]
    outside = mask[0, ..., 0] == 0
    np.testing.assert_array_equal(
        drawn[:, outside], np.broadcast_to(inputs.image[0], drawn.shape)[:, outside]
    )
    inside = mask[0, ..., 0] == 1
    assert np.abs(drawn[0] - drawn[1])[inside].max() > 1e-2
    empty = inputs._replace(mask=jnp.zeros_like(inputs.mask))
    base = blended_latent.render(model.cascade, model.params, empty, *args)
    kept = contracts.enlarge(model.cascade, model.params, empty, base, [0, 1], sampling)[0]
    np.testing.assert_array_equal(kept, np.broadcast_to(inputs.image, kept.shape))


@pytest.mark.slow
def test_fitting_the_decoder_brings_the_background_back(sd_loaded):
    stage, params = sd_loaded.cascade.stages[0], sd_loaded.params["stages"][0]
    size = stage.size
    mask = np.zeros((1, size, size, 1))
    mask[:, : size // 2, : size // 2] = 1
    inputs = inputs_for(sd_loaded, mask=mask)
    z = stage.prepare(params, inputs.image)
    edited = stage.finish(params, z)
    how = Restoring(jnp.int32(40), jnp.float32(1e-3))
    fitted = blended_latent.restored(stage, params, z, inputs.image, inputs.mask, how)
    outside, inside = (mask[0, ..., 0] == n for n in (0, 1))
    before, after = (np.square(p - inputs.image)[:, outside].mean() for p in (edited, fitted))
    assert after < 0.8 * before
    assert np.square(fitted - edited)[:, inside].mean() < before - after


@pytest.mark.slow
def test_restoring_is_a_part_of_drawing(sd_loaded, tiny_loaded):
    for loaded, changes in ((sd_loaded, True), (tiny_loaded, False)):
        size = loaded.cascade.size
        mask = np.zeros((1, size, size, 1))
        mask[:, : size // 2] = 1
        inputs, sampling = inputs_for(loaded, mask=mask), sampling_for(loaded)
        args = (loaded.cascade, loaded.params, inputs, None)
        plain, fitted = (
            blended_latent.render(
                *args, Config(restore_steps=n, restore_rate=1e-3), sampling, [0.7], [0, 1]
            )
            for n in (0, 3)
        )
        assert (np.abs(plain - fitted).max() > 1e-4) == changes
