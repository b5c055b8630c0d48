"""The four places: sky, sun or moon, clouds, what stands on the horizon, and the ground.

The layout (horizon, clouds, hills) is nuisance and the place only says what they are made of, so
moving a picture from the meadow to the beach keeps its composition.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.flatland.canvas import Pen, Points, circle, ellipse, paint, polygon
from imagic_jax.flatland.nuisance import LAND_BLOBS, SKY_BLOBS, Nuisance

MEADOW, BEACH, SNOW, NIGHT = range(4)

# One row per place.
_SKY_TOP = np.array(
    [[0.36, 0.62, 0.93], [0.42, 0.74, 0.9], [0.6, 0.66, 0.76], [0.03, 0.04, 0.13]], np.float32
)
_SKY_LOW = np.array(
    [[0.8, 0.9, 0.98], [0.99, 0.87, 0.7], [0.86, 0.88, 0.92], [0.13, 0.15, 0.34]], np.float32
)
_GROUND = np.array(
    [[0.42, 0.68, 0.26], [0.93, 0.83, 0.58], [0.94, 0.96, 0.99], [0.1, 0.2, 0.23]], np.float32
)
_GROUND_LOW = np.array(
    [[0.3, 0.55, 0.2], [0.86, 0.72, 0.45], [0.8, 0.86, 0.95], [0.05, 0.11, 0.15]], np.float32
)
_CLOUD = np.array(
    [[0.99, 0.99, 1.0], [1.0, 0.96, 0.9], [0.95, 0.95, 0.97], [0.17, 0.19, 0.36]], np.float32
)
_LAND = np.array(
    [[0.3, 0.52, 0.27], [0.32, 0.56, 0.62], [0.25, 0.42, 0.4], [0.07, 0.1, 0.2]], np.float32
)
_SUN = np.array(
    [[1.0, 0.95, 0.6], [1.0, 0.8, 0.42], [0.99, 0.97, 0.9], [0.97, 0.96, 0.82]], np.float32
)
_SEA = np.array([0.16, 0.5, 0.72], np.float32)
_STARS = (
    (0.08, 0.1),
    (0.2, 0.27),
    (0.33, 0.07),
    (0.47, 0.22),
    (0.6, 0.1),
    (0.7, 0.3),
    (0.83, 0.18),
    (0.94, 0.07),
)


def background(canvas, pen: Pen, grid: Points, place, u: Nuisance):
    """Paints everything behind the subject; `place` is a traced index."""
    is_beach = (place == BEACH).astype(jnp.float32)
    is_snow = (place == SNOW).astype(jnp.float32)
    is_night = (place == NIGHT).astype(jnp.float32)
    tint = u.sky * (1.0 - 0.6 * is_night)
    fall = jnp.clip(grid.y / u.horizon, 0.0, 1.0)[..., None]
    sky = _of(_SKY_TOP, place) * (1 - fall) + _of(_SKY_LOW, place) * fall + tint
    everywhere = jnp.full_like(grid.x, -1.0)
    canvas = paint(canvas, pen, grid, everywhere, sky)
    stars = functools.reduce(jnp.minimum, [circle(grid, x, y, 0.011) for x, y in _STARS])
    stars = stars + 9.0 * (1.0 - is_night)
    canvas = paint(canvas, pen, grid, stars, jnp.array([0.95, 0.95, 0.85]), ink=0.5)
    canvas = paint(
        canvas, pen, grid, circle(grid, u.sun[0], u.sun[1], 0.068), _of(_SUN, place), ink=0.7
    )
    bite = circle(grid, u.sun[0] + 0.035, u.sun[1] - 0.015, 0.056) + 9.0 * (1.0 - is_night)
    canvas = paint(canvas, pen, grid, bite, _SKY_TOP[NIGHT] + tint, ink=0.3)
    for k in range(SKY_BLOBS):
        x, y, r = u.clouds[k, 0], u.clouds[k, 1], u.clouds[k, 2]
        cloud = jnp.minimum(
            ellipse(grid, x, y, 1.7 * r, 0.55 * r), circle(grid, x - 0.3 * r, y - 0.35 * r, 0.6 * r)
        )
        canvas = paint(canvas, pen, grid, cloud, _of(_CLOUD, place) + 0.5 * tint, ink=0.4)
    for k in range(LAND_BLOBS):
        x, r, tone = u.lands[k, 0], u.lands[k, 1], u.lands[k, 2]
        hill = ellipse(grid, x, u.horizon + 0.02, 1.8 * r, r)
        fir = polygon(
            grid,
            (x, u.horizon - 2.0 * r),
            (x + 0.75 * r, u.horizon + 0.03),
            (x - 0.75 * r, u.horizon + 0.03),
        )
        land = hill + is_snow * (fir - hill)
        canvas = paint(
            canvas, pen, grid, land, _of(_LAND, place) * (0.85 + 0.35 * tone) + tint, ink=0.6
        )
    sea = jnp.maximum(u.horizon - grid.y, grid.y - u.horizon - 0.1) + 9.0 * (1.0 - is_beach)
    canvas = paint(canvas, pen, grid, sea, _SEA + tint, ink=0.4)
    shore = u.horizon + 0.09 * is_beach
    depth = jnp.clip((grid.y - shore) / (1.0 - shore), 0.0, 1.0)[..., None]
    ground = _of(_GROUND, place) * (1 - depth) + _of(_GROUND_LOW, place) * depth + tint
    ripple = jnp.sin(grid.y * u.texture[1] * 2 * jnp.pi + 6.0 * grid.x + u.texture[2])
    ground = ground + u.texture[0] * ripple[..., None]
    return paint(canvas, pen, grid, shore - grid.y, ground, ink=0.6)


def _of(table: Float[np.ndarray, "places 3"], place) -> Float[Array, "3"]:
    return jnp.asarray(table)[place]


def shadow(canvas, pen: Pen, p: Points, half_width, y):
    """The soft shadow that a subject throws on the ground, in its own frame."""
    reach = ((p.x / half_width) ** 2 + ((p.y - y) / 0.16) ** 2)[..., None]
    return canvas * (1.0 - 0.34 * jnp.exp(-1.2 * reach))
