"""Peak signal-to-noise ratio."""

import jax.numpy as jnp
from jaxtyping import Array, Float

CAP = 100.0  # dB; identical pictures would be infinite


def psnr(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], peak: float = 2.0
) -> Float[Array, "b"]:
    """PSNR per picture in dB, at most 100.

    Args:
        x, y: pictures.
        peak: their range: 2 for [-1, 1], 1 for [0, 1].
    """
    error = jnp.mean(jnp.square((x - y) / peak), axis=(1, 2, 3))
    return jnp.minimum(-10.0 * jnp.log10(jnp.maximum(error, 1e-30)), CAP)


def masked_psnr(
    x: Float[Array, "b h w c"],
    y: Float[Array, "b h w c"],
    mask: Float[Array, "b h w"],
    peak: float = 2.0,
) -> Float[Array, "b"]:
    """PSNR over the pixels where `mask` is 1 (the true mean over them); NaN for an empty mask."""
    square = jnp.mean(jnp.square((x - y) / peak), axis=-1)
    count = mask.sum(axis=(1, 2))
    error = (square * mask).sum(axis=(1, 2)) / count
    return jnp.minimum(-10.0 * jnp.log10(jnp.maximum(error, 1e-30)), CAP)
