"""Activation functions by their config names, with PyTorch's exact meanings."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from imagic_jax.typing import Array, Float

_SQRT_HALF = 0.5**0.5


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Exact GELU, x * Phi(x) with erf. (`jax.nn.gelu` defaults to the tanh approximation.)"""
    return 0.5 * x * (1.0 + jax.lax.erf(x * _SQRT_HALF))


def gelu_tanh(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The tanh approximation, transformers' `gelu_new`: T5 was trained with this one."""
    return jax.nn.gelu(x, approximate=True)


def silu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * sigmoid(x)."""
    return x * jax.nn.sigmoid(x)


def quick_gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x * sigmoid(1.702 x): OpenAI's CLIP was trained with this approximation."""
    return x * jax.nn.sigmoid(1.702 * x)


def relu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """max(x, 0)."""
    return jnp.maximum(x, 0.0)


_BY_NAME = {
    "silu": silu,
    "swish": silu,
    "gelu": gelu,
    "quick_gelu": quick_gelu,
    "relu": relu,
}


def activation(name: str) -> Callable[[Array], Array]:
    """The function that diffusers' `act_fn` or transformers' `hidden_act` calls `name`."""
    return _BY_NAME[name]
