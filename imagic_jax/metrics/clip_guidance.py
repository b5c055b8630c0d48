"""CLIP as a loss on pictures: how far a picture is from a text, with a gradient.

Blended Diffusion (Avrahami et al. 2022, arXiv:2111.14818): the distance is that along the sphere,
and it is averaged over randomly warped views of the picture ("extending augmentations", section
3.3.1 there), because the gradient of one view alone draws adversarial textures.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float, Key

from imagic_jax.metrics.clip import OPENAI, Preprocessing
from imagic_jax.metrics.networks import open_pair
from imagic_jax.models import CLIPModel
from imagic_jax.models.clip_pair import unit
from imagic_jax.typing import Params, Tokens

ROTATION, SHIFT, DISTORTION, SHARE = 15.0, 0.1, 0.7, 0.7  # of the published code's warps
_CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float32)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A CLIP model and how its pictures are normalised: static.

    Pictures are resized as they are, not by way of bytes: a gradient must pass.
    """

    model: CLIPModel
    how: Preprocessing = OPENAI

    def embed(self, params: Params, pictures: Float[Array, "b s s 3"]) -> Float[Array, "b p"]:
        """Embeddings of length 1 of pictures in [-1, 1] of any size."""
        size = self.how.size
        if pictures.shape[1] != size:
            shape = (pictures.shape[0], size, size, 3)
            pictures = jax.image.resize(pictures, shape, "linear", antialias=True)
        mean, std = (jnp.asarray(a, pictures.dtype) for a in (self.how.mean, self.how.std))
        pixels = ((pictures + 1) / 2 - mean) / std
        seen: Any = self.model.apply({"params": params}, pixels, method="encode_image")
        return unit(seen.image_embeds)


class Scorer(NamedTuple):
    """CLIP and one text: `reader` is static, the rest arrays."""

    reader: Reader
    params: Params
    text: Float[Array, "1 p"]  # of length 1; zeros for the empty text, from which nothing is far


def open_scorer(folder: str | Path, text: str) -> Scorer:
    """Reads a CLIP pair (`networks.open_pair`), and the text.

    Raises:
        weights.WeightsError, TokenizerError: a file is missing or broken, or it is another network.
    """
    pair = open_pair(Path(folder))
    if text.strip():
        embedding = _read(pair.module, pair.params, pair.tokenize([text]))
    else:
        embedding = jnp.zeros((1, pair.module.config.projection_dim), jnp.float32)
    return Scorer(Reader(pair.module, pair.how), pair.params, embedding)


@functools.partial(jax.jit, static_argnums=0)
def _read(model: CLIPModel, params: Params, ids: Tokens) -> Float[Array, "b p"]:
    read: Any = model.apply({"params": params}, ids, method="encode_text")
    return unit(read.pooled)


def spherical_distance(u: Float[Array, "b p"], v: Float[Array, "#b p"]) -> Float[Array, " b"]:
    """2 arcsin(|u - v| / 2)^2 of vectors of length 1: half the squared angle, 0 to pi^2 / 2."""
    square = jnp.square(u - v).sum(axis=-1)
    apart = square > 1e-12  # the root has no gradient at 0
    half = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1.0)) / 2, 0.0)
    return 2 * jnp.square(jnp.arcsin(jnp.minimum(half, 1 - 1e-7)))


def distance(
    reader: Reader, params: Params, text: Float[Array, "1 p"], pictures: Float[Array, "b s s 3"]
) -> Float[Array, "b"]:
    """How far each picture, in [-1, 1], is from the text; 0 for the empty text."""
    far = spherical_distance(reader.embed(params, pictures), text)
    return jnp.where(jnp.any(text != 0), far, 0.0)


def distance_of_views(
    reader: Reader,
    params: Params,
    text: Float[Array, "1 p"],
    pictures: Float[Array, "b s s 3"],
    keys: Key[Array, " b"],
    views: int,
) -> Float[Array, "b"]:
    """The mean of `distance` over `views` views: the picture itself, and warps of it."""
    batch, size = pictures.shape[:2]
    warped = jax.vmap(lambda p, k: _views(p, k, views))(pictures, keys)
    far = distance(reader, params, text, warped.reshape(batch * views, size, size, 3))
    return far.reshape(batch, views).mean(axis=1)


def _views(picture: Float[Array, "s s 3"], key: Key[Array, ""], views: int) -> Array:
    if views == 1:
        return picture[None]
    more = jax.vmap(lambda k: warp(picture, random_view(k)))(jax.random.split(key, views - 1))
    return jnp.concatenate([picture[None], more])


def random_view(key: Key[Array, ""]) -> Float[Array, "3 3"]:
    """Where each point of a view is read, as a projective map of [-1, 1] x [-1, 1].

    With probability `SHARE` each: turned by up to `ROTATION` degrees and moved by up to `SHIFT` of
    the width; and the four corners drawn inwards by up to `DISTORTION` / 2 of the width.
    """
    turn, move, which, corners = jax.random.split(key, 4)
    angle = jnp.deg2rad(jax.random.uniform(turn, minval=-ROTATION, maxval=ROTATION))
    x, y = jax.random.uniform(move, (2,), minval=-2 * SHIFT, maxval=2 * SHIFT)
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    affine = jnp.array([[cos, -sin, x], [sin, cos, y], [0.0, 0.0, 1.0]])
    inwards = jax.random.uniform(corners, (4, 2), maxval=DISTORTION)
    perspective = jnp.linalg.inv(_onto_corners(jnp.asarray(_CORNERS) * (1 - inwards)))
    chosen = jax.random.bernoulli(which, SHARE, (2, 1, 1))
    same = jnp.eye(3)
    return jnp.where(chosen[0], affine, same) @ jnp.where(chosen[1], perspective, same)


def _onto_corners(corners: Float[Array, "4 2"]) -> Float[Array, "3 3"]:
    """The projective map that carries the square's corners onto `corners`."""
    ends = np.concatenate([_CORNERS, np.ones((4, 1), np.float32)], axis=1)
    nothing = np.zeros_like(ends)
    moved = corners[:, :, None] * _CORNERS[:, None, :]  # (corner, which coordinate, x or y)
    rows = [
        jnp.concatenate([ends, nothing, -moved[:, 0]], axis=1),
        jnp.concatenate([nothing, ends, -moved[:, 1]], axis=1),
    ]
    solved = jnp.linalg.solve(jnp.concatenate(rows), corners.T.reshape(8))
    return jnp.append(solved, 1.0).reshape(3, 3)


def warp(picture: Float[Array, "s s 3"], view: Float[Array, "3 3"]) -> Float[Array, "s s 3"]:
    """The picture read through `view`, bilinearly; beyond its border, the border's colour."""
    size = picture.shape[0]
    at = (jnp.arange(size, dtype=picture.dtype) + 0.5) * (2 / size) - 1
    x, y = jnp.meshgrid(at, at)
    u, v, w = jnp.einsum("ij,jyx->iyx", view, jnp.stack([x, y, jnp.ones_like(x)]))
    columns, rows = ((c / w + 1) * (size / 2) - 0.5 for c in (u, v))
    read = [
        map_coordinates(picture[..., c], [rows, columns], order=1, mode="nearest") for c in range(3)
    ]
    return jnp.stack(read, axis=-1)
