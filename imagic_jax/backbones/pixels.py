"""Pixels in and out of a stage: space-to-depth and resizing, with PyTorch's conventions."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def space_to_depth(image: Float[Array, "b h w c"], patch: int) -> Float[Array, "b h2 w2 c2"]:
    """`torch.nn.functional.pixel_unshuffle` in NHWC: new channel = c * p * p + row * p + column."""
    b, h, w, c = image.shape
    blocks = image.reshape(b, h // patch, patch, w // patch, patch, c)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(b, h // patch, w // patch, c * patch * patch)


def depth_to_space(x: Float[Array, "b h w c"], patch: int) -> Float[Array, "b h2 w2 c2"]:
    """`torch.nn.functional.pixel_shuffle` in NHWC, the inverse of `space_to_depth`."""
    b, h, w, c = x.shape
    blocks = x.reshape(b, h, w, c // (patch * patch), patch, patch)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(b, h * patch, w * patch, -1)


@functools.cache
def _align_corners(size_in: int, size_out: int) -> np.ndarray:
    """Weights (out, in) of bilinear interpolation that maps corner pixels onto corner pixels."""
    where = np.arange(size_out) * ((size_in - 1) / max(size_out - 1, 1))
    low = np.minimum(where.astype(int), max(size_in - 2, 0))
    share = where - low
    weights = np.zeros((size_out, size_in))
    weights[np.arange(size_out), low] += 1 - share
    weights[np.arange(size_out), np.minimum(low + 1, size_in - 1)] += share
    return weights


def upsample(image: Float[Array, "b h w c"], size: int) -> Float[Array, "b h2 w2 c"]:
    """Bilinear with `align_corners=True`, as IF's super-resolution stages see their input.

    (`jax.image.resize` samples at half-pixel centres, which is off by up to 1.2 on noise.)
    """
    rows = jnp.asarray(_align_corners(image.shape[1], size), image.dtype)
    columns = jnp.asarray(_align_corners(image.shape[2], size), image.dtype)
    return jnp.einsum("yi,xj,bijc->byxc", rows, columns, image)


def resize(image: Float[Array, "b h w c"], size: int) -> Float[Array, "b size2 size2 c"]:
    """To `size` x `size`: the mean over blocks where the size divides, else antialiased cubic."""
    b, h, w, c = image.shape
    if (h, w) == (size, size):
        return image
    if h == w and h % size == 0:
        k = h // size
        return image.reshape(b, size, k, size, k, c).mean(axis=(2, 4))
    return jax.image.resize(image, (b, size, size, c), "cubic", antialias=True)


def touched(
    mask: Float[Array, "b h w 1"], size: int, dilation: int = 0
) -> Float[Array, "b size2 size2 1"]:
    """The cells of a `size` x `size` grid that a mask touches, as 0 and 1.

    Nearest-neighbour resizing would lose thin masks, and a mean would soften edges. `dilation`
    widens the answer by so many cells on every side.
    """
    b, h, w, _ = mask.shape
    cells = (mask > 0).astype(mask.dtype)
    if h == w and h % size == 0:
        k = h // size
        cells = cells.reshape(b, size, k, size, k, 1).max(axis=(2, 4))
    else:
        cells = jax.image.resize(cells, (b, size, size, 1), "linear", antialias=True)
        cells = (cells > 1e-6).astype(mask.dtype)
    if dilation:
        window = (2 * dilation + 1,) * 2
        cells = nn.max_pool(cells, window, padding="SAME")
    return cells
