"""Resizing exactly as the programs did that made the published numbers.

The resize is part of a metric: bicubic with and without antialiasing differ, and so do Pillow's and
PyTorch's. Every kind is, per axis, a table of taps: which pixels an output pixel reads, and by what
weights (worked out in float64).
"""

import functools
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Kind = Literal["pil-bicubic", "bicubic", "bilinear-antialias", "bilinear", "bilinear-tf1"]
_PIL_BITS = 22  # of the fixed point in which Pillow resizes bytes


class Taps(NamedTuple):
    """One axis of a resize."""

    pixel: np.ndarray  # (out, taps) int32
    weight: np.ndarray  # (out, taps) float64


@functools.lru_cache(maxsize=64)
def taps(size: int, out: int, kind: Kind) -> Taps:
    """Which pixels of `size` make each of `out` pixels.

    "pil-bicubic" is Pillow's (antialiased, a = -0.5), and PyTorch's with `antialias=True`;
    "bilinear-antialias" likewise. "bicubic" (a = -0.75) and "bilinear" are PyTorch's `interpolate`
    without it; "bilinear-tf1" is TensorFlow 1's, whose pixels begin at their corner.
    """
    if kind == "pil-bicubic":
        return _antialiased(size, out, 2.0, functools.partial(_cubic, a=-0.5))
    if kind == "bilinear-antialias":
        return _antialiased(size, out, 1.0, _triangle)
    half = 0.0 if kind == "bilinear-tf1" else 0.5
    centre = (np.arange(out) + half) * (size / out) - half
    if kind != "bicubic":
        centre = np.maximum(centre, 0.0)
    first = np.floor(centre)
    reach = np.arange(-1, 3) if kind == "bicubic" else np.arange(2)
    at = first[:, None] + reach
    distance = at - centre[:, None]
    weight = _cubic(distance, a=-0.75) if kind == "bicubic" else _triangle(distance)
    return Taps(np.clip(at, 0, size - 1).astype(np.int32), weight)


def _antialiased(size: int, out: int, support: float, kernel) -> Taps:
    """Pillow's tables: the kernel is widened when shrinking, and cut and normalised at edges."""
    scale = size / out
    wide = max(scale, 1.0)
    centre = (np.arange(out) + 0.5) * scale
    first = np.maximum((centre - support * wide + 0.5).astype(int), 0)
    last = np.minimum((centre + support * wide + 0.5).astype(int), size)
    at = first[:, None] + np.arange((last - first).max())
    weight = kernel((at - centre[:, None] + 0.5) / wide)
    weight = np.where(at < last[:, None], weight, 0.0)
    weight /= weight.sum(axis=1, keepdims=True)
    return Taps(np.minimum(at, size - 1).astype(np.int32), weight)


def _cubic(x: np.ndarray, a: float) -> np.ndarray:
    """Keys' cubic convolution kernel."""
    x = np.abs(x)
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))


def _triangle(x: np.ndarray) -> np.ndarray:
    return np.maximum(1.0 - np.abs(x), 0.0)


def resize(
    x: Float[Array, "b h w c"], height: int, width: int, kind: Kind
) -> Float[Array, "b h2 w2 c"]:
    """Resizes in floating point; nothing is rounded or cut off."""
    for axis, out in ((2, width), (1, height)):
        if x.shape[axis] == out:
            continue  # every kind is then the identity
        index, weight = taps(x.shape[axis], out, kind)
        x = _combine(x, axis, index, jnp.asarray(weight, x.dtype))
    return x


def resize_bytes(x: Float[Array, "b h w c"], height: int, width: int) -> Float[Array, "b h2 w2 c"]:
    """`PIL.Image.resize((width, height), BICUBIC)` of 8-bit pictures, to the bit.

    Args:
        x: whole numbers from 0 to 255.

    Returns:
        Whole numbers from 0 to 255: Pillow rounds after each axis, columns first.
    """
    values = x.astype(jnp.int32)
    for axis, out in ((2, width), (1, height)):
        if values.shape[axis] == out:
            continue
        index, weight = taps(values.shape[axis], out, "pil-bicubic")
        fixed = np.trunc(weight * (1 << _PIL_BITS) + np.copysign(0.5, weight)).astype(np.int32)
        total = _combine(values, axis, index, jnp.asarray(fixed)) + (1 << (_PIL_BITS - 1))
        values = jnp.clip(total >> _PIL_BITS, 0, 255)
    return values.astype(x.dtype)


def _combine(x: Array, axis: int, index: np.ndarray, weight: Array) -> Array:
    """Sums over taps; one at a time, so that no picture is held once per tap."""
    shape = [1] * x.ndim
    shape[axis] = index.shape[0]
    total = None
    for k in range(index.shape[1]):
        part = jnp.take(x, index[:, k], axis=axis) * weight[:, k].reshape(shape)
        total = part if total is None else total + part
    assert total is not None
    return total


def shorter_side_to(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width with the shorter side `size`, the longer one rounded down as torchvision."""
    if height <= width:
        return size, int(size * width / height)
    return int(size * height / width), size


def centre_crop(x: Float[Array, "b h w c"], size: int) -> Float[Array, "b s s c"]:
    """torchvision's `CenterCrop`: half pixels are rounded to even."""
    top, left = (round((n - size) / 2.0) for n in x.shape[1:3])
    return x[:, top : top + size, left : left + size]


def to_bytes(x: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
    """[0, 1] to whole numbers from 0 to 255, as a picture file would hold them."""
    return jnp.round(jnp.clip(x, 0.0, 1.0) * 255.0)
