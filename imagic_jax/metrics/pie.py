"""PIE-Bench's metrics exactly as its code computes them (Ju et al. 2024, arXiv:2310.01506).

To stand beside published numbers, its habits must be kept (`evaluation/matrics_calculator.py` of
cure-lab/PnPInversion): pictures are multiplied by the mask and then measured over the whole frame.
So MSE is divided by all pixels, and a background of half the picture gains 3 dB of PSNR. LPIPS is
SqueezeNet's. An empty region has no value (NaN). Structure distance with `pie_compat`: `dino.py`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagic_jax.metrics import lpips as plain
from imagic_jax.metrics.psnr import mse, psnr
from imagic_jax.metrics.ssim import ssim
from imagic_jax.models.lpips import LPIPS
from imagic_jax.typing import Params


def filled(
    pictures: Float[Array, "b h w 3"], region: Float[Array, "b h w"]
) -> Float[Array, "b h w 3"]:
    """Pictures in [0, 1], black outside the region."""
    return pictures * region[..., None]


def pie_mse(
    x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"], region: Float[Array, "b h w"]
) -> Float[Array, "b"]:
    """MSE over the whole frame of pictures in [0, 1] that are black outside the region."""
    return _or_nan(mse(filled(x, region), filled(y, region)), region)


def pie_psnr(
    x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"], region: Float[Array, "b h w"]
) -> Float[Array, "b"]:
    """PSNR over the whole frame, likewise (at most 100 dB, where the original is infinite)."""
    return _or_nan(psnr(filled(x, region), filled(y, region), peak=1.0), region)


def pie_ssim(
    x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"], region: Float[Array, "b h w"]
) -> Float[Array, "b"]:
    """torchmetrics' SSIM over the whole frame, likewise."""
    return _or_nan(ssim(filled(x, region), filled(y, region), edges="reflect"), region)


def pie_lpips(
    module: LPIPS,
    params: Params,
    x: Float[Array, "b h w 3"],
    y: Float[Array, "b h w 3"],
    region: Float[Array, "b h w"],
) -> Float[Array, "b"]:
    """LPIPS (SqueezeNet's, if `module` is) of pictures in [0, 1] filled likewise."""
    inside = (2.0 * filled(a, region) - 1.0 for a in (x, y))
    return _or_nan(plain.lpips(module, params, *inside), region)


def _or_nan(values: Float[Array, "b"], region: Float[Array, "b h w"]) -> Float[Array, "b"]:
    """No value where the region is empty."""
    return jnp.where(region.sum(axis=(1, 2)) > 0, values, jnp.nan)
