"""Mean squared error and peak signal-to-noise ratio."""

import jax.numpy as jnp
from jaxtyping import Array, Float

CAP = 100.0  # dB; identical pictures would be infinite


def mse(x: Float[Array, "b h w c"], y: Float[Array, "b h w c"]) -> Float[Array, "b"]:
    """Mean squared error per picture."""
    return jnp.mean(jnp.square(x - y), axis=(1, 2, 3))


def masked_mse(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], mask: Float[Array, "b h w"]
) -> Float[Array, "b"]:
    """MSE over the pixels where `mask` is 1 (the true mean over them); NaN for an empty mask."""
    square = jnp.mean(jnp.square(x - y), axis=-1)
    return (square * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))


def psnr_of_mse(error: Float[Array, "*b"], peak: float = 1.0) -> Float[Array, "*b"]:
    """PSNR in dB of a mean squared error, at most 100.

    Of the mean error of many pictures it is another number than the mean of their PSNRs.
    """
    return jnp.minimum(-10.0 * jnp.log10(jnp.maximum(error / peak**2, 1e-30)), CAP)


def psnr(
    x: Float[Array, "b h w c"], y: Float[Array, "b h w c"], peak: float = 2.0
) -> Float[Array, "b"]:
    """PSNR per picture in dB, at most 100.

    Args:
        x, y: pictures.
        peak: their range: 2 for [-1, 1], 1 for [0, 1].
    """
    return psnr_of_mse(mse(x, y), peak)


def masked_psnr(
    x: Float[Array, "b h w c"],
    y: Float[Array, "b h w c"],
    mask: Float[Array, "b h w"],
    peak: float = 2.0,
) -> Float[Array, "b"]:
    """PSNR over the pixels where `mask` is 1 (the true mean over them); NaN for an empty mask."""
    return psnr_of_mse(masked_mse(x, y, mask), peak)
