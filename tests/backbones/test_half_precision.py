"""bfloat16 compute over float32 masters: steps as small as the paper's are not lost."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import published
import pytest
import tiny

from imagic_jax.backbones.codecs import Pixels
from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import TuningConfig
from imagic_jax.models import UNet2DCondition, UNetConfig
from imagic_jax.weights.families import family_of, parameter_shapes

COND = Cond(jax.random.normal(jax.random.key(1), (1, 7, 24)))
X0 = jax.random.uniform(jax.random.key(2), (1, 16, 16, 4), minval=-1.0)
PAPER = TuningConfig(steps=12, learning_rate=5e-7)


def stage(dtype) -> UNetStage:
    config = json.loads((published.PARITY / "unet_sd1.json").read_text())
    unet = UNet2DCondition(UNetConfig.from_dict(config), dtype)
    schedule = Schedule.from_config({"clip_sample": False, **published.SD_SCHEDULER})
    return UNetStage("base", 16, unet, schedule, Pixels())


@pytest.fixture(scope="module")
def params():
    module = stage(jnp.float32).unet
    family = family_of({"_class_name": "UNet2DConditionModel"})
    drawn = tiny.random_params(parameter_shapes(module, family.inputs(module)), 0)
    return {"unet": jax.tree.map(jnp.asarray, drawn)}


def test_fine_tuning_at_the_papers_rate_lowers_the_loss(params):
    half, full = stage(jnp.bfloat16), stage(jnp.float32)
    picture = imagic.Picture(X0, None)
    state = imagic.tune(half, params, picture, COND, COND, PAPER, jax.random.key(3))
    trained = state.value["trainable"]
    assert {a.dtype for a in trained.values()} == {jnp.dtype(jnp.float32)}
    tuned = imagic.adapters.merge(params, trained)

    @jax.jit
    def loss(params, key):
        return full.loss(params, X0, COND, None, key, 4)

    keys = jax.random.split(jax.random.key(4), 4)
    before, after = (np.array([loss(p, k) for k in keys]) for p in (params, tuned))
    assert (after < before).all()


def test_masters_in_half_precision_are_refused_with_the_reason(params):
    half = jax.tree.map(lambda a: jnp.asarray(a, jnp.bfloat16), params)
    with pytest.raises(ValueError, match=r"kept in bfloat16: what is tuned must be .* float32"):
        imagic.start_tuning(half, PAPER)
