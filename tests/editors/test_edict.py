"""EDICT's coupled latents: undone to the last digit, and only as a pair."""

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones.contracts import Extra
from imagic_jax.backbones.generate import Sampling, denoiser
from imagic_jax.diffusion import coupled
from imagic_jax.diffusion.schedule import Schedule, grid
from imagic_jax.editors import edict
from imagic_jax.editors.contracts import Inputs
from imagic_jax.errors import UserError

IMAGE = jax.random.uniform(jax.random.key(5), (1, 4, 4, 3), minval=-1.0)
SOURCE, TARGET, NULL = ((analytic.cond(mean),) for mean in (0.3, -0.4, 0.0))
CLIPPED = Schedule(beta_schedule="squaredcos_cap_v2", clip_sample=True)


def round_trip(dtype, schedule=None, back_mixing=0.93, alone=False, first=10):
    """Largest error after 50 steps up and 50 - `first` down, guided by 3."""
    stage = analytic.GaussianStage(bend=0.1, **({"schedule": schedule} if schedule else {}))
    denoise = denoiser(stage, {}, SOURCE[0], NULL[0], Extra(), jnp.float32(3))
    levels, x0 = grid(stage.schedule, 50), IMAGE.astype(dtype)
    found = coupled.invert(denoise, stage.schedule, x0, levels, jnp.asarray(0.93, dtype))
    pair = (found.latents[first], found.latents[first] if alone else found.pair[first])
    args = (pair, levels, jnp.int32(first), jnp.asarray(back_mixing, dtype))
    back = coupled.replay(denoise, stage.schedule, *args)
    assert back[0].dtype == dtype
    return max(float(np.abs(x - x0).max()) for x in back)


@pytest.mark.parametrize("schedule", [None, CLIPPED])
def test_the_pair_comes_back_exactly(schedule):
    assert round_trip(jnp.float32, schedule) < 1e-5
    with jax.enable_x64(True):
        assert round_trip(jnp.float64, schedule) < 1e-13


def test_one_latent_alone_or_another_mixing_does_not_come_back():
    with jax.enable_x64(True):
        assert round_trip(jnp.float64, alone=True) > 1e-4
        assert round_trip(jnp.float64, back_mixing=0.9) > 1e-4


def render(inputs, strengths=(0.8,), steps=50, **config):
    cascade, sampling = analytic.cascade(bend=0.1), Sampling(steps=(steps,), guidance=(3.0,))
    config = edict.Config(**config)
    fit = edict.fit(cascade, analytic.PARAMS, inputs, config, sampling, jax.random.key(0))
    args = (inputs, fit, config, sampling, strengths, (0, 1))
    return edict.render(cascade, analytic.PARAMS, *args)


def test_the_editor_gives_the_picture_back_under_its_own_text_and_edits_under_another():
    strengths = (0.0, 0.3, 0.62, 1.0)
    same = render(Inputs(IMAGE, SOURCE, NULL, SOURCE), strengths)
    np.testing.assert_allclose(same, np.broadcast_to(IMAGE, same.shape), atol=1e-5)
    drawn = render(Inputs(IMAGE, TARGET, NULL, SOURCE), strengths)
    away = (np.asarray(IMAGE) - drawn[:, 0]).mean(axis=(1, 2, 3))
    assert np.all(np.diff(away) > 0.05)  # towards the darker text
    with pytest.raises(UserError, match="needs a source text"):
        render(Inputs(IMAGE, TARGET, NULL))
