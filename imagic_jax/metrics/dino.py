"""DINO scores: structure distance (Tumanyan et al. 2022) and likeness of class tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagic_jax.metrics.resize import (
    Kind,
    centre_crop,
    resize,
    resize_bytes,
    shorter_side_to,
    to_bytes,
)
from imagic_jax.models.dino import DINO, DINOOutput
from imagic_jax.typing import Params

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, of pictures in [0, 1]
_RESIZED = 256  # pixels of the shorter side, before the crop of `dino_i`


def structure_pixels(
    pictures: Float[Array, "b h w 3"], size: int = 224, pie_compat: bool = False
) -> Float[Array, "b s s 3"]:
    """Square pictures in [0, 1] as the structure distance takes them.

    Args:
        pie_compat: as PIE-Bench's code does it: values from 0 to 255 meet the mean and deviation of
            [0, 1], and the bilinear resize is not antialiased.

    Raises:
        ValueError: pictures that are not square.
    """
    if pictures.shape[1] != pictures.shape[2]:
        height, width = pictures.shape[1:3]
        raise ValueError(
            f"pictures of {height} x {width}, but the structure distance wants squares"
        )
    kind: Kind = "bilinear" if pie_compat else "bilinear-antialias"
    pixels = resize(pictures, size, size, kind)
    return _normalised(pixels * 255.0 if pie_compat else pixels)


def crop_pixels(pictures: Float[Array, "b h w 3"], size: int = 224) -> Float[Array, "b s s 3"]:
    """Pictures in [0, 1] for `dino_i`: shorter side 256 by Pillow's bicubic, centre crop."""
    height, width = shorter_side_to(pictures.shape[1], pictures.shape[2], max(_RESIZED, size))
    pixels = centre_crop(resize_bytes(to_bytes(pictures), height, width), size) / 255.0
    return _normalised(pixels)


def _normalised(pixels: Float[Array, "b h w 3"]) -> Float[Array, "b h w 3"]:
    mean, std = (jnp.asarray(a, pixels.dtype) for a in (MEAN, STD))
    return (pixels - mean) / std


def features(module: DINO, params: Params, pixels: Float[Array, "b s s 3"]) -> DINOOutput:
    """The network's class tokens and keys."""
    with jax.default_matmul_precision("float32"):
        out: Any = module.apply({"params": params}, pixels)
    return out


def structure_distance(x: Float[Array, "b t d"], y: Float[Array, "b t d"]) -> Float[Array, "b"]:
    """Mean squared difference of the self-similarities of two pictures' keys.

    S_ij = cos(k_i, k_j) over all tokens, the class token among them.
    """
    return jnp.mean(jnp.square(_self_similarity(x) - _self_similarity(y)), axis=(1, 2))


def _self_similarity(keys: Float[Array, "b t d"]) -> Float[Array, "b t t"]:
    length = jnp.linalg.norm(keys, axis=-1)
    lengths = jnp.maximum(length[:, :, None] * length[:, None, :], 1e-8)
    return jnp.einsum("bid,bjd->bij", keys, keys, precision="float32") / lengths


def dino_i(x: Float[Array, "b d"], y: Float[Array, "b d"]) -> Float[Array, "b"]:
    """The cosine of two pictures' class tokens."""
    lengths = jnp.linalg.norm(x, axis=-1) * jnp.linalg.norm(y, axis=-1)
    return jnp.sum(x * y, axis=-1) / jnp.maximum(lengths, 1e-8)
