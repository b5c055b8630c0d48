"""The nuisance `u`: everything about a Flatland picture that no caption names.

Two laws draw it: `train` (what the models saw) and `wide` (test pictures: a little more hue and
light, a ground texture that training never shows, and an identity mark). A mark is six random
black/white cells on the subject; the base model trains without marks, so it cannot draw one from
a caption, and keeping it through an edit shows what fine-tuning is for.
"""

from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

MARK_ROWS, MARK_COLUMNS = 2, 3
MARK_BITS = MARK_ROWS * MARK_COLUMNS
SKY_BLOBS, LAND_BLOBS = 2, 3

Law = Literal["train", "wide"]


class Nuisance(NamedTuple):
    """One draw of the nuisance. Lengths are in units of the frame (0..1, y downwards)."""

    position: Float[Array, "*b 2"]  # of the subject's body centre
    scale: Float[Array, "*b"]  # one local unit; the subject spans about two of them
    facing: Float[Array, "*b"]  # +1 looks right, -1 looks left
    hue: Float[Array, "*b"]  # offset of the subject's hue, in turns
    tone: Float[Array, "*b"]  # brightness factor of the subject
    light: Float[Array, "*b 2"]  # direction (-1..1) and strength of the light gradient
    horizon: Float[Array, "*b"]  # height of the horizon
    sky: Float[Array, "*b 3"]  # additive RGB tint of the background
    sun: Float[Array, "*b 2"]  # position of the sun or moon
    clouds: Float[Array, "*b n 3"]  # (x, y, size) of the sky blobs
    lands: Float[Array, "*b m 3"]  # (x, size, tone) of the blobs on the horizon
    texture: Float[Array, "*b 3"]  # strength (0 in training), frequency, phase of the ground ripple
    hatch: Float[Array, "*b 2"]  # angle and phase of the pencil strokes
    mark: Float[Array, "*b 6"]  # the cells of the identity mark, 0 black or 1 white
    mark_on: Float[Array, "*b"]  # 1 where the mark is painted


def sample(key: PRNGKeyArray, law: Law = "train", marks: bool = False) -> Nuisance:
    """Draws one `Nuisance` (no batch axis; vmap over keys for many).

    Args:
        key: a JAX PRNG key.
        law: "train", or "wide" for test pictures.
        marks: whether the identity mark is painted.
    """
    wide = 1.0 if law == "wide" else 0.0
    keys = iter(jax.random.split(key, 24))

    def uniform(low, high, shape=()):
        return jax.random.uniform(next(keys), shape, jnp.float32, low, high)

    def spread(centre, half):
        return jnp.asarray(centre, jnp.float32) + uniform(-1.0, 1.0, jnp.shape(centre)) * half

    cloud_x = jnp.array([0.22, 0.75])
    land_x = jnp.array([0.12, 0.55, 0.95])
    return Nuisance(
        position=spread(jnp.array([0.5, 0.585]), jnp.array([0.12, 0.03])),
        scale=uniform(0.225, 0.275),
        facing=jnp.where(uniform(0.0, 1.0) < 0.5, -1.0, 1.0),
        hue=uniform(-1.0, 1.0) * (0.012 + 0.008 * wide),
        tone=uniform(0.94, 1.04),
        light=jnp.stack([uniform(-1.0, 1.0), uniform(0.02, 0.08 + 0.06 * wide)]),
        horizon=uniform(0.47, 0.57),
        sky=uniform(-0.04, 0.04, (3,)),
        sun=spread(jnp.array([0.5, 0.13]), jnp.array([0.42, 0.05])),
        clouds=jnp.stack(
            [
                cloud_x + uniform(-0.15, 0.15, (SKY_BLOBS,)),
                uniform(0.08, 0.3, (SKY_BLOBS,)),
                uniform(0.05, 0.1, (SKY_BLOBS,)),
            ],
            axis=-1,
        ),
        lands=jnp.stack(
            [
                land_x + uniform(-0.15, 0.15, (LAND_BLOBS,)),
                uniform(0.07, 0.16, (LAND_BLOBS,)),
                uniform(0.0, 1.0, (LAND_BLOBS,)),
            ],
            axis=-1,
        ),
        texture=jnp.stack([uniform(0.02, 0.05) * wide, uniform(9.0, 14.0), uniform(0.0, 6.28)]),
        hatch=jnp.stack([uniform(0.5, 1.0), uniform(0.0, 6.28)]),
        mark=jax.random.bernoulli(next(keys), 0.5, (MARK_BITS,)).astype(jnp.float32),
        mark_on=jnp.float32(1.0 if marks else 0.0),
    )
