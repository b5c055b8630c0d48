"""What a program becomes is decided by the platform that it is lowered for, not by this machine."""

import re

import jax
import jax.numpy as jnp
import pytest

from imagic_jax.models.conv import conv2d
from imagic_jax.models.softmax_attention import softmax_attention


def lowered(function, *shapes, platform):
    return jax.jit(function).trace(*shapes).lower(lowering_platforms=(platform,)).as_text()


def conv_gradients(x, kernel):
    return jax.grad(lambda x, k: jnp.square(conv2d(x, k)).sum(), (0, 1))(x, kernel)


@pytest.mark.parametrize("channels", [16, 512])
def test_gradients_of_convolutions_are_xlas_on_accelerators(channels):
    """With 512 channels and 64 pixels the CPU has one matrix product for each of the three."""
    x = jax.ShapeDtypeStruct((1, 8, 8, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((3, 3, channels, channels), jnp.float32)
    for platform in ("tpu", "cuda"):
        text = lowered(conv_gradients, x, kernel, platform=platform)
        assert len(re.findall(r"stablehlo\.convolution", text)) == 3
        assert "dot_general" not in text
    text = lowered(conv_gradients, x, kernel, platform="cpu")
    assert "dot_general" in text


def test_long_attention_is_in_blocks_on_a_cpu_alone():
    q = jax.ShapeDtypeStruct((4096, 8), jnp.float32)
    assert "stablehlo.while" in lowered(softmax_attention, q, q, q, platform="cpu")
    for platform in ("tpu", "cuda"):
        text = lowered(softmax_attention, q, q, q, platform=platform)
        assert "stablehlo.while" not in text
        assert "4096x4096" in text
