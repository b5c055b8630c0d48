"""Attention and features can be read and changed from outside, through `intercept_methods`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.models import AddedKVAttention, Attention, ResnetBlock, softmax_attention
from imagic_jax.models.attention import TokenAttention


def _explicit(q, k, v):
    """Textbook attention, written another way than the module's."""
    scores = jnp.einsum("bnhd,bmhd->bhnm", q, k) / np.sqrt(q.shape[-1])
    return jnp.einsum("bhnm,bmhd->bnhd", jax.nn.softmax(scores, axis=-1), v)


def _traced(case, interceptor):
    """The output's shape with every intercepted call run once, without computing."""

    def run(params):
        with nn.intercept_methods(interceptor):
            return case.module.apply({"params": params}, *case.args, **case.kwargs)

    return jax.eval_shape(run, case.params)


def _sites(case):
    """{path of every attention: (queries, keys, how many of them are text)}."""
    sites = {}

    def look(call, args, kwargs, context):
        if isinstance(context.module, Attention) and context.method_name == "attend":
            q, k, _ = args
            sites["/".join(context.module.path)] = (q.shape[1], k.shape[1], kwargs["text_keys"])
        return call(*args, **kwargs)

    _traced(case, look)
    return sites


def test_sites_of_transformer_blocks(recorded_unet):
    sites = _sites(recorded_unet("sd1"))
    block = "down_blocks_0/attentions_1/transformer_blocks_0"
    assert sites[f"{block}/attn1"] == (256, 256, 0)
    assert sites[f"{block}/attn2"] == (256, 11, 11)
    assert len(sites) == 2 * (2 + 2 + 1 + 3 + 3)


def test_sites_of_added_kv_blocks_say_how_many_keys_are_text(recorded_unet):
    assert _sites(recorded_unet("if_i"))["mid_block/attentions_0"] == (16, 11 + 16, 11)
    assert _sites(recorded_unet("if_ii_only_cross"))["mid_block/attentions_0"] == (64, 11, 11)


@pytest.mark.parametrize("added_kv", [False, True])
def test_explicit_attention_in_its_place_changes_nothing(small_unet, added_kv):
    case = small_unet(added_kv)

    def explicit(call, args, kwargs, context):
        if isinstance(context.module, Attention) and context.method_name == "attend":
            return _explicit(*args)
        return call(*args, **kwargs)

    def run(params):
        plain = case.module.apply({"params": params}, *case.args)
        with nn.intercept_methods(explicit):
            return plain, case.module.apply({"params": params}, *case.args)

    plain, replaced = jax.jit(run)(case.params)
    np.testing.assert_allclose(replaced, plain, atol=2e-5)


def test_interceptors_change_attention_and_features_and_hand_values_out():
    class Pair(nn.Module):
        @nn.compact
        def __call__(self, x, context, temb):
            x = AddedKVAttention(heads=2, norm_num_groups=2, name="attention")(x, context)
            return ResnetBlock(8, 2, 1e-5, "gelu", name="resnet")(x, temb)

    rng = np.random.default_rng(0)
    shapes = [(1, 4, 4, 8), (1, 3, 6), (1, 5)]
    inputs = [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]
    params = Pair().init(jax.random.key(0), *inputs)["params"]

    def edit(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if isinstance(context.module, Attention) and context.method_name == "attend":
            context.module.sow("intermediates", "attended", out)
            return jnp.zeros_like(out)
        if isinstance(context.module, ResnetBlock) and context.method_name == "features":
            return out + 1
        return out

    @jax.jit
    def run(params):
        with nn.intercept_methods(edit):
            return Pair().apply({"params": params}, *inputs, mutable="intermediates")

    out, aux = run(params)
    plain = Pair().apply({"params": params}, *inputs)
    # attention zeroed: what is left of the block is its output bias, zero in a fresh network
    resnet = ResnetBlock(8, 2, 1e-5, "gelu").apply({"params": params["resnet"]}, *inputs[::2])
    np.testing.assert_allclose(out, resnet + 1, atol=1e-5)
    assert np.abs(out - plain - 1).max() > 1e-3
    assert aux["intermediates"]["attention"]["attended"][0].shape == (1, 16, 2, 4)


def test_softmax_is_float32_in_a_bfloat16_network():
    """Two keys whose scores differ by 2^-9 of their size: bf16 scores would be equal."""
    q = jnp.full((1, 1, 1, 64), 4, jnp.bfloat16)
    k = jnp.stack([jnp.full(64, 8.0), jnp.full(64, 8.0).at[0].set(8.0625)])[None, :, None]
    v = jnp.asarray([0.0, 1.0])[None, :, None, None] * jnp.ones(64)
    out = TokenAttention(1).apply(
        {}, q, k.astype(jnp.bfloat16), v.astype(jnp.bfloat16), text_keys=0, method="attend"
    )
    expected = jax.nn.sigmoid(4 * 0.0625 / 8)
    np.testing.assert_allclose(np.asarray(out, np.float32), expected, atol=2e-3)
    assert abs(expected - 0.5) > 5e-3


def _long(rows=2048, dtype=jnp.float32):
    """Queries, keys and values long enough to be worked out in blocks."""
    keys = jax.random.split(jax.random.key(0), 3)
    return tuple(jax.random.normal(k, (1, 2, rows, 4), dtype) for k in keys)


def test_blocks_of_queries_are_the_same_function():
    q, k, v = _long()

    def loss(f):
        return jax.jit(jax.value_and_grad(lambda *a: jnp.square(f(*a)).sum(), (0, 1, 2)))

    (value, grads), (expected, expected_grads) = (
        loss(f)(q, k, v) for f in (softmax_attention.in_blocks, softmax_attention.whole)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for ours, theirs in zip(grads, expected_grads, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_long_attention_is_done_in_blocks_on_cpu_alone(platform):
    traced = jax.jit(softmax_attention.softmax_attention).trace(*_long())
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    assert ("while" in text) == (platform == "cpu")
    assert ("2048x2048" in text) == (platform != "cpu")


def test_attention_that_would_fill_memory_is_done_in_blocks_everywhere():
    """65,536 pixels, as in the autoencoder of the x4 upscaler at 1024 pixels."""
    shapes = [jax.ShapeDtypeStruct((1, 65536, 8), jnp.float32)] * 3
    traced = jax.jit(softmax_attention.softmax_attention).trace(*shapes)
    text = traced.lower(lowering_platforms=("tpu",)).as_text()
    assert "65536x65536" not in text
