"""Kernels of attention: equal to plain attention, chosen where they fit, lowered where they run."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.experimental.pallas import tpu as pltpu

from imagic_jax.models import UNet2DCondition, UNetConfig
from imagic_jax.models import attention_kernels as kernels
from imagic_jax.models.attention import Attention
from imagic_jax.models.softmax_attention import whole


def qkv(pixels, heads=1, width=40, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(k, (1, pixels, heads, width)).astype(dtype) for k in keys]


def plain(q, k, v):
    return whole(*(x.swapaxes(1, 2) for x in (q, k, v))).swapaxes(1, 2)


@pytest.mark.parametrize("width", [40, 160])
def test_the_tpu_kernel_is_the_same_function(width):
    arrays = qkv(512, heads=2, width=width)
    with pltpu.force_tpu_interpret_mode():
        out = kernels.flash(*arrays)
    np.testing.assert_allclose(out, plain(*arrays), atol=2e-6)


def test_the_tpu_kernel_has_the_same_gradient():
    arrays = qkv(512)

    def loss(attend, arrays):
        return jnp.square(attend(*arrays)).sum()

    with pltpu.force_tpu_interpret_mode():
        ours = jax.grad(lambda a: loss(kernels.flash, a))(arrays)
    for a, b in zip(ours, jax.grad(lambda a: loss(plain, a))(arrays), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.parametrize(
    ("kernel", "queries", "keys", "width", "dtype", "expected"),
    [
        ("flash", 4096, 4096, 40, jnp.bfloat16, True),
        ("flash", 4096, 4096, 40, jnp.float32, True),
        ("flash", 9216, 9216, 64, jnp.bfloat16, True),
        ("flash", 4096, 77, 40, jnp.bfloat16, False),
        ("flash", 1024, 1024, 80, jnp.bfloat16, False),
        ("flash", 4096, 4096 + 77, 64, jnp.bfloat16, False),
        ("flash", 4096, 4096, 512, jnp.bfloat16, False),
        ("cudnn", 4096, 4096, 40, jnp.bfloat16, True),
        ("cudnn", 1024, 1024, 80, jnp.bfloat16, True),
        ("cudnn", 4096, 4096, 40, jnp.float32, False),
        ("cudnn", 4096, 4096, 160, jnp.bfloat16, False),
        ("cudnn", 4096, 77, 40, jnp.bfloat16, False),
        ("plain", 4096, 4096, 40, jnp.bfloat16, False),
    ],
)
def test_a_kernel_is_chosen_where_it_fits(kernel, queries, keys, width, dtype, expected):
    assert kernels.fits(kernel, queries, keys, width, dtype) is expected


def test_a_program_that_xla_divides_keeps_plain_attention():
    long = ("flash", 4096, 4096, 40, jnp.bfloat16)
    with jax.set_mesh(jax.make_mesh((2,), ("fsdp",), (jax.sharding.AxisType.Auto,))):
        assert not kernels.fits(*long)
    with jax.set_mesh(jax.make_mesh((1,), ("fsdp",), (jax.sharding.AxisType.Auto,))):
        assert kernels.fits(*long)


def test_attend_uses_the_kernel_and_editors_come_before_it(monkeypatch):
    used = []
    monkeypatch.setattr(kernels, "fits", lambda *_: True)
    monkeypatch.setattr(kernels, "flash", lambda q, k, v: used.append(q.shape) or v)
    module, (q, k, v) = Attention(heads=1), qkv(16)

    def attend(module):
        return module.attend(q, k, v, text_keys=0)

    with kernels.attending("plain"):
        module.apply({}, method=attend)
    assert not used
    with kernels.attending("flash"):
        np.testing.assert_array_equal(module.apply({}, method=attend), v)
    assert used == [q.shape]

    def editor(call, arguments, keywords, context):
        return 2 * arguments[2]

    with nn.intercept_methods(editor), kernels.attending("flash"):
        np.testing.assert_array_equal(module.apply({}, method=attend), 2 * v)
    assert len(used) == 1


def test_lowered_for_a_tpu_the_kernel_is_in_the_program():
    def lowered(kernel):
        module = Attention(heads=8)
        shapes = [jax.ShapeDtypeStruct((1, 4096, 8, 40), jnp.bfloat16)] * 3

        def attend(q, k, v):
            with kernels.attending(kernel):
                return module.apply({}, q, k, v, text_keys=0, method="attend")

        return jax.jit(attend).trace(*shapes).lower(lowering_platforms=("tpu",)).as_text()

    assert "tpu_custom_call" in lowered("flash")
    assert "tpu_custom_call" not in lowered("plain")


def test_what_a_machine_cannot_compile_is_plain():
    assert kernels.works("plain")
    assert not kernels.works("cudnn")  # on a CPU
    assert not kernels.works("flash")


ONE_LEVEL = {
    "block_out_channels": [8],
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "layers_per_block": 1,
    "cross_attention_dim": 8,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}


def test_remat_gives_the_same_gradient():
    config = UNetConfig.from_dict(ONE_LEVEL)
    once, again = (UNet2DCondition(config, remat=remat) for remat in (False, True))
    given = jnp.ones((1, 4, 4, 4)), jnp.int32(3), jnp.ones((1, 5, 8))
    shapes = [
        jax.eval_shape(net.init, jax.random.key(0), *given)["params"] for net in (once, again)
    ]
    assert shapes[0] == shapes[1]
    params = tiny.random_params(shapes[0], 0)

    def gradient(net):
        def loss(params):
            return jnp.square(net.apply({"params": params}, *given)).sum()

        return jax.jit(jax.grad(loss)).trace(params)

    kept, remade = gradient(once), gradient(again)
    assert len(str(remade.jaxpr)) > 1.2 * len(str(kept.jaxpr))  # the levels are in it twice
    ours, theirs = (g.lower().compile()(params) for g in (kept, remade))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), ours, theirs)
