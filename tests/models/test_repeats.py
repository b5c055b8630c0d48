"""A loop over equal layers is the layers written out: values, gradients, names, kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from imagic_jax.models import UNet2DCondition, UNetConfig
from imagic_jax.models import attention_kernels as kernels
from imagic_jax.models.attention import Transformer2D

WRITTEN_OUT = Transformer2D(heads=2, depth=5, norm_num_groups=4)
LOOP = WRITTEN_OUT.clone(scan=True)
PIXELS, TEXT = np.random.default_rng(0).normal(size=(2, 1, 4, 4, 8))
QUICK = {"xla_backend_optimization_level": 0}


def params_and_inputs(dtype=jnp.float32):
    """The same for both, and so are names and layout."""
    inputs = [jnp.asarray(a, dtype) for a in (PIXELS, TEXT[:, 0])]
    shapes = [
        jax.eval_shape(m.init, jax.random.key(0), *inputs)["params"] for m in (WRITTEN_OUT, LOOP)
    ]
    assert shapes[0] == shapes[1]
    assert "transformer_blocks_4" in shapes[1]
    params = tiny.random_params(shapes[0], 0)
    return jax.tree.map(lambda a: jnp.asarray(a, dtype), params), inputs


def loops(function, *args):
    """How many loops a traced function has."""
    return str(jax.make_jaxpr(function)(*args)).count(" scan[")


def test_values_and_gradients_are_those_of_the_layers_written_out():
    with jax.enable_x64(True):
        params, inputs = params_and_inputs(jnp.float64)

        def run(module):
            module = module.clone(dtype=jnp.float64)

            def loss(params, inputs):
                out = module.apply({"params": params}, *inputs)
                return jnp.square(out).sum(), out

            gradient = jax.value_and_grad(loss, (0, 1), has_aux=True)
            compiled = jax.jit(gradient, compiler_options=QUICK)
            return loops(gradient, params, inputs), compiled(params, inputs)

        (none, written), (some, looped) = map(run, (WRITTEN_OUT, LOOP))
        assert none == 0
        assert some == 2  # forwards and backwards
    for a, b in zip(*map(jax.tree.leaves, (written, looped)), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_the_devices_kernel_is_used_inside_the_loop(monkeypatch):
    params, inputs = params_and_inputs()
    used = []
    monkeypatch.setattr(kernels, "fits", lambda kernel, queries, keys, *_: keys == 16)
    monkeypatch.setattr(kernels, "flash", lambda q, k, v: used.append(q.shape) or v)
    with kernels.attending("flash"):
        jax.eval_shape(LOOP.apply, {"params": params}, *inputs)
    assert used == [(1, 16, 2, 4)]  # traced once, for five layers


@pytest.mark.parametrize(("depth", "expected"), [(3, 0), (4, 4)])
def test_the_loops_of_a_unet_are_its_deep_stacks(depth, expected):
    config = {
        "block_out_channels": [8, 8],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "layers_per_block": 1,
        "transformer_layers_per_block": depth,
        "cross_attention_dim": 8,
        "attention_head_dim": 2,
        "norm_num_groups": 4,
    }
    unet = UNet2DCondition(UNetConfig.from_dict(config), scan=True)
    inputs = jnp.ones((1, 4, 4, 4)), jnp.int32(3), jnp.ones((1, 5, 8))
    params = jax.eval_shape(unet.init, jax.random.key(0), *inputs)["params"]
    found = loops(lambda p: unet.apply({"params": p}, *inputs), params)
    assert found == expected  # one on the way down, one in the middle, two on the way up
