"""Pooling with PyTorch's edges (NHWC): windows that hang over, padding that does not count."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.typing import Array, Features, Float


def max_pool(
    x: Features, size: int, stride: int, padding: int = 0, ceil: bool = False
) -> Float[Array, "b h2 w2 c"]:
    """`torch.nn.MaxPool2d(size, stride, padding, ceil_mode=ceil)`."""
    after = [padding + (_overhang(n, size, stride, padding) if ceil else 0) for n in x.shape[1:3]]
    edges: Any = [(padding, after[0]), (padding, after[1])]
    return nn.max_pool(x, (size, size), (stride, stride), edges)


def _overhang(n: int, size: int, stride: int, padding: int) -> int:
    """By how many pixels the last window hangs over; it must begin before the trailing padding."""
    room = n + 2 * padding - size
    windows = -(-room // stride) + 1
    if (windows - 1) * stride >= n + padding:
        windows -= 1
    return max(0, (windows - 1) * stride - room)


def mean_of_neighbours(x: Features) -> Features:
    """3 x 3 average pooling of stride 1 that does not count what lies outside (TensorFlow's)."""
    window, edges = (1, 3, 3, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
    inside = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    total, count = (
        jax.lax.reduce_window(a, jnp.zeros((), a.dtype), jax.lax.add, window, (1, 1, 1, 1), edges)
        for a in (x, inside)
    )
    return total / count
