"""A loop over equal layers is the layers written out: values, gradients, names, kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from imagic_jax.models import CLIPTextModel, T5Config, T5Encoder, UNet2DCondition, UNetConfig
from imagic_jax.models import attention_kernels as kernels
from imagic_jax.models.attention import Transformer2D
from imagic_jax.models.clip import CLIPTextConfig

IDS = jnp.asarray([[7, 8, 1, 0, 0, 3]])
MASK = jnp.asarray([[1, 1, 1, 0, 0, 1]])
T5 = {"vocab_size": 9, "d_model": 8, "d_kv": 4, "d_ff": 8, "num_layers": 6, "num_heads": 2}
CLIP = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 12, "max_position_embeddings": 6}
CLIP |= {"num_hidden_layers": 6, "num_attention_heads": 2, "projection_dim": 4, "eos_token_id": 8}
TRANSFORMER = Transformer2D(heads=2, depth=5, norm_num_groups=4)
PIXELS, TEXT = np.random.default_rng(0).normal(size=(2, 1, 4, 4, 8)).astype(np.float32)
NETWORKS = {
    "transformer": (TRANSFORMER, (PIXELS, TEXT[:, 0])),
    "t5": (T5Encoder(T5Config(**T5)), (IDS, MASK)),
    "clip": (CLIPTextModel(CLIPTextConfig.from_dict(CLIP)), (IDS,)),
}
QUICK = {"xla_backend_optimization_level": 0}


def both(name, dtype=jnp.float32):
    """The network written out and as a loop, its parameters and inputs."""
    module, inputs = NETWORKS[name]
    pair = [module.clone(dtype=dtype, scan=scan) for scan in (False, True)]
    shapes = [jax.eval_shape(m.init, jax.random.key(0), *inputs)["params"] for m in pair]
    assert shapes[0] == shapes[1]  # names and layout are those of the layers
    params = jax.tree.map(lambda a: jnp.asarray(a, dtype), tiny.random_params(shapes[0], 0))
    inputs = [jnp.asarray(a, dtype) if a.dtype == jnp.float32 else a for a in inputs]
    return pair, params, inputs


def loops(function, *args):
    """How many loops a traced function has."""
    return str(jax.make_jaxpr(function)(*args)).count(" scan[")


@pytest.mark.parametrize("name", NETWORKS)
def test_values_and_gradients_are_those_of_the_layers_written_out(name):
    with jax.enable_x64(True):
        pair, params, inputs = both(name, jnp.float64)

        def run(module):
            def loss(params):
                out = jax.tree.leaves(module.apply({"params": params}, *inputs))
                return sum(jnp.square(a).sum() for a in out), out

            gradient = jax.value_and_grad(loss, has_aux=True)
            return loops(gradient, params), jax.jit(gradient, compiler_options=QUICK)(params)

        (none, written), (some, looped) = map(run, pair)
        assert none == 0
        assert some == 2  # forwards and backwards
    for a, b in zip(*map(jax.tree.leaves, (written, looped)), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_the_devices_kernel_is_used_inside_the_loop(monkeypatch):
    (_, module), params, inputs = both("transformer")
    used = []
    monkeypatch.setattr(kernels, "fits", lambda kernel, queries, keys, *_: keys == 16)
    monkeypatch.setattr(kernels, "flash", lambda q, k, v: used.append(q.shape) or v)
    with kernels.attending("flash"):
        jax.eval_shape(module.apply, {"params": params}, *inputs)
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
