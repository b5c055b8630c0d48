"""Structural similarity (Wang et al. 2004): the original's window, an 11 x 11 Gaussian.

sigma = 1.5, K = (0.01, 0.03), population covariance, each channel for itself. This is
scikit-image's `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`; its default, a
7 x 7 uniform window, gives values that differ by about 0.05.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

RADIUS = 5
_SIGMA, _K1, _K2 = 1.5, 0.01, 0.03

Edges = Literal["valid", "reflect"]


def ssim(
    x: Float[Array, "b h w c"],
    y: Float[Array, "b h w c"],
    peak: float = 1.0,
    edges: Edges = "valid",
) -> Float[Array, "b"]:
    """SSIM per picture: the mean of the map over places and channels.

    Args:
        x, y: pictures in [0, peak], of at least 11 pixels per side. Unlike the PSNR, SSIM changes
            when a constant is added: pictures in [-1, 1] must be brought to [0, 1] first.
        peak: their range.
        edges: "valid" takes windows that lie inside, as the paper and scikit-image; "reflect"
            mirrors pictures at their edges, as torchmetrics since 1.0.

    Raises:
        ValueError: pictures smaller than the window.
    """
    if edges == "reflect":
        x, y = (_mirrored(a) for a in (x, y))
    return ssim_map(x, y, peak).mean(axis=(1, 2, 3))


def masked_ssim(
    x: Float[Array, "b h w c"],
    y: Float[Array, "b h w c"],
    mask: Float[Array, "b h w"],
    peak: float = 1.0,
) -> Float[Array, "b"]:
    """Mean of the SSIM map over the windows that lie inside the mask; NaN where there are none."""
    inside = _eroded(mask)
    similarity = ssim_map(x, y, peak).mean(axis=-1)
    return (similarity * inside).sum(axis=(1, 2)) / inside.sum(axis=(1, 2))


def ssim_map(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], peak: float = 1.0
) -> Float[Array, "b h2 w2 c"]:
    """SSIM of every window that lies inside: 10 rows and columns fewer than the pictures.

    Raises:
        ValueError: pictures smaller than the window.
    """
    if min(x.shape[1:3]) < 2 * RADIUS + 1:
        raise ValueError(f"pictures of {x.shape[1]} x {x.shape[2]}, but SSIM's window is 11 x 11")
    # Differences of large numbers: in float32 the variance is better the nearer to 0 pictures are.
    x, y = x - 0.5 * peak, y - 0.5 * peak
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance = _blurred(x * x + y * y) - mean_x * mean_x - mean_y * mean_y
    covariance = _blurred(x * y) - mean_x * mean_y
    mean_x, mean_y = mean_x + 0.5 * peak, mean_y + 0.5 * peak
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    luminance = (2.0 * mean_x * mean_y + c1) / (mean_x * mean_x + mean_y * mean_y + c1)
    return luminance * (2.0 * covariance + c2) / (variance + c2)


def _blurred(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    """Gaussian window means, one axis after the other, each a product with a band matrix.

    At the sizes of edits that is faster than adding shifted pictures, on CPU too, though most of
    the matrix is zero.
    """
    down, across = (jnp.asarray(_band(n), x.dtype) for n in x.shape[1:3])
    x = jnp.einsum("ih,bhwc->biwc", down, x, precision="float32")
    return jnp.einsum("jw,biwc->bijc", across, x, precision="float32")


@functools.lru_cache(maxsize=16)
def _band(size: int) -> np.ndarray:
    """(size - 10, size): row i holds the window from pixel i on."""
    window = np.exp(-0.5 * np.square(np.arange(-RADIUS, RADIUS + 1) / _SIGMA))
    window /= window.sum()
    diagonals = [w * np.eye(size - 2 * RADIUS, size, i) for i, w in enumerate(window)]
    return np.sum(diagonals, axis=0)


def _eroded(mask: Float[Array, "b h w"]) -> Float[Array, "b h2 w2"]:
    """1 at the centres of windows that the mask covers, by the shape of `ssim_map`."""
    size = 2 * RADIUS + 1
    least = jnp.asarray(jnp.inf, mask.dtype)
    return jax.lax.reduce_window(mask, least, jax.lax.min, (1, size, size), (1, 1, 1), "VALID")


def _mirrored(x: Float[Array, "b h w c"]) -> Float[Array, "b h2 w2 c"]:
    edge = (RADIUS, RADIUS)
    return jnp.pad(x, ((0, 0), edge, edge, (0, 0)), mode="reflect")
