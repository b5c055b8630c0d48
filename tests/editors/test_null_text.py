"""Null-text and negative-prompt inversion: guidance that keeps to the inverted path."""

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion.schedule import grid
from imagic_jax.editors import ddim_inversion, negative_prompt, null_text
from imagic_jax.editors.contracts import Inputs
from imagic_jax.errors import UserError

IMAGE = jax.random.uniform(jax.random.key(5), (1, 4, 4, 3), minval=-1.0)
SOURCE, TARGET, NULL = ((analytic.cond(mean),) for mean in (0.3, -0.4, 0.0))
KEY = jax.random.key(0)


def render(module, inputs, guidance=7.5, steps=20, strengths=(1.0,), **config):
    cascade, sampling = analytic.cascade(bend=0.1), Sampling(steps=(steps,), guidance=(guidance,))
    config = module.Config(**config)
    fit = module.fit(cascade, analytic.PARAMS, inputs, config, sampling, KEY)
    args = (inputs, fit, config, sampling, strengths, (0,))
    return module.render(cascade, analytic.PARAMS, *args)[:, 0]


def test_optimising_the_empty_text_lowers_every_loss():
    stage, levels = analytic.GaussianStage(bend=0.1), grid(analytic.GaussianStage().schedule, 20)
    cascade, sampling = analytic.cascade(bend=0.1), Sampling(steps=(20,), guidance=(7.5,))
    inputs = Inputs(IMAGE, SOURCE, NULL, SOURCE)
    found = ddim_inversion.fit_under(
        cascade, analytic.PARAMS, inputs, SOURCE[0], "destination", sampling
    )
    rate, inner = jnp.float32(0.05), jnp.int32(30)
    args = (stage, {}, found, SOURCE[0], NULL[0], levels, jnp.float32(7.5), rate, inner)
    better, losses = null_text.optimise(*args)
    enough = 1e-5 + 2e-5 * np.arange(20)
    assert np.all((losses[:, 1] < losses[:, 0]) | (losses[:, 1] < enough))
    assert better.cond_overrides.shape == (20, *NULL[0].states.shape)
    _, untouched = null_text.optimise(*args[:-1], jnp.int32(0))
    assert not np.isfinite(untouched).any()  # no step, no loss


def test_the_source_text_comes_back_under_guidance_and_the_target_edits():
    same = Inputs(IMAGE, SOURCE, NULL, SOURCE)
    better = render(null_text, same, learning_rate=0.05, inner_steps=30)
    plain = render(ddim_inversion, same)
    error, before = (np.abs(a[0] - IMAGE).mean() for a in (better, plain))
    assert error < 0.3 * before
    edited = render(null_text, Inputs(IMAGE, TARGET, NULL, SOURCE), strengths=(0.0, 0.4, 0.8))
    np.testing.assert_allclose(edited[0], IMAGE[0], atol=1e-6)
    away = np.abs(edited - np.asarray(IMAGE)).mean(axis=(1, 2, 3))
    assert np.all(np.diff(away) > 0)


@pytest.mark.parametrize("guidance", [3.0, 7.5])
def test_a_negative_prompt_that_is_the_target_undoes_guidance(guidance):
    same = Inputs(IMAGE, SOURCE, NULL, SOURCE)
    unguided = render(ddim_inversion, same, None)
    np.testing.assert_allclose(render(negative_prompt, same, guidance), unguided, atol=1e-6)
    plain = render(ddim_inversion, same, guidance)
    np.testing.assert_array_equal(render(negative_prompt, same, guidance, emptiness=1.0), plain)
    assert np.abs(plain - unguided).max() > 0.1


def test_what_is_missing_is_said():
    for module in (null_text, negative_prompt):
        with pytest.raises(UserError, match="needs a source text"):
            render(module, Inputs(IMAGE, TARGET, NULL))
    with pytest.raises(UserError, match="about guidance"):
        render(null_text, Inputs(IMAGE, TARGET, NULL, SOURCE), None)
