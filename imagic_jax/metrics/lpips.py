"""LPIPS v0.1 (Zhang et al. 2018): distance of deep features, weighted to agree with people.

Pictures are in [-1, 1]. The trunks differ more than methods do (AlexNet's is the usual one, VGG's
the usual loss, SqueezeNet's is PIE-Bench's), so the trunk is part of the metric's name.
"""

import functools
import operator
from typing import Any

import jax
from jaxtyping import Array, Float

from imagic_jax.metrics.resize import resize
from imagic_jax.models.lpips import LPIPS
from imagic_jax.typing import Params

SMALLEST = 64  # pixels per side; below, AlexNet's last maps are a single pixel wide


def lpips(
    module: LPIPS, params: Params, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]
) -> Float[Array, "b"]:
    """LPIPS per picture: the sum over layers of the mean over places.

    Args:
        x, y: pictures in [-1, 1], of at least 64 pixels per side.
    """
    means = [m.mean(axis=(1, 2)) for m in _layers(module, params, x, y)]
    return functools.reduce(operator.add, means)


def lpips_map(
    module: LPIPS, params: Params, x: Float[Array, "b h w 3"], y: Float[Array, "b h w 3"]
) -> Float[Array, "b h w"]:
    """LPIPS at every pixel: the layers' maps, each enlarged to the pictures' size, summed."""
    height, width = x.shape[1:3]
    layers = _layers(module, params, x, y)
    enlarged = [resize(m[..., None], height, width, "bilinear")[..., 0] for m in layers]
    return functools.reduce(operator.add, enlarged)


def masked_lpips(
    module: LPIPS,
    params: Params,
    x: Float[Array, "b h w 3"],
    y: Float[Array, "b h w 3"],
    mask: Float[Array, "b h w"],
) -> Float[Array, "b"]:
    """Mean of `lpips_map` where `mask` is 1; NaN for an empty mask.

    Features see beyond the mask's edge, by up to half their receptive field: the network is run on
    the whole pictures.
    """
    distance = lpips_map(module, params, x, y)
    return (distance * mask).sum(axis=(1, 2)) / mask.sum(axis=(1, 2))


def _layers(module: LPIPS, params: Params, x: Array, y: Array) -> tuple[Array, ...]:
    if min(x.shape[1:3]) < SMALLEST:
        raise ValueError(
            f"pictures of {x.shape[1]} x {x.shape[2]}, but LPIPS wants at least {SMALLEST} pixels "
            "per side; enlarge them first and say so"
        )
    with jax.default_matmul_precision("float32"):
        maps: Any = module.apply({"params": params}, x, y)
    return maps
