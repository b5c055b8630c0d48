"""Norms keep their precision where the mean is large against the spread."""

import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.models.norms import LayerNorm, RMSNorm, group_norm


def _group_norm_f64(x, scale, bias, groups, epsilon):
    x = np.asarray(x, np.float64)
    grouped = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    mean, var = grouped.mean((1, 3), keepdims=True), grouped.var((1, 3), keepdims=True)
    return ((grouped - mean) / np.sqrt(var + epsilon)).reshape(x.shape) * scale + bias


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("shape", [(2, 8, 6, 24), (3, 11, 24)])
def test_group_norm_over_all_positions(offset, shape):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(offset, 1, shape), jnp.float32)
    scale, bias = (jnp.asarray(rng.normal(size=24), jnp.float32) for _ in range(2))
    out = group_norm(x, scale, bias, 8, 1e-5)
    expected = _group_norm_f64(x, np.asarray(scale), np.asarray(bias), 8, 1e-5)
    assert np.abs(out - expected).max() < 5e-5


def test_layer_norm_with_a_large_mean():
    x = jnp.asarray(np.random.default_rng(0).normal(100, 1, (4, 64)), jnp.float32)
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean(-1, keepdims=True)) / np.sqrt(wide.var(-1, keepdims=True) + 1e-5)
    params = {"scale": jnp.ones(64), "bias": jnp.zeros(64)}
    assert np.abs(LayerNorm(1e-5).apply({"params": params}, x) - expected).max() < 5e-5


def test_statistics_are_float32_in_a_bfloat16_network():
    """512 equal terms of bf16 would add up to 256: 256 + 1 rounds back to 256."""
    x = jnp.ones((1, 512), jnp.bfloat16) * 3
    out = RMSNorm(1e-6, jnp.bfloat16).apply({"params": {"scale": jnp.ones(512)}}, x)
    assert out.dtype == jnp.bfloat16
    assert np.all(np.asarray(out, np.float32) == 1.0)
