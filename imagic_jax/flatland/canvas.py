"""Signed-distance shapes and the canvas they are painted on.

A shape is an array of signed distances (negative inside) over the pixel grid; painting covers each
pixel by the share of it that the shape fills (anti-aliasing by coverage), back to front. Two pens
share every call: `photo` shades the fill like a lit volume, `sketch` hatches it with colour pencil
on paper and draws a graphite outline. Distances and formulas: Quilez, "2D distance functions".
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Plane = Float[Array, "h w"]
Number = float | Array  # a Python number or a traced scalar

PAPER = np.array([0.965, 0.95, 0.91], np.float32)
GRAPHITE = np.array([0.22, 0.22, 0.25], np.float32)


class Points(NamedTuple):
    """Coordinates of the pixel centres in some frame, and the length of that frame's unit."""

    x: Plane
    y: Plane
    unit: Float[Array, ""] | float  # in units of the picture's side


def pixel_grid(size: int) -> Points:
    """Pixel centres of a `size` x `size` picture, x to the right and y down, in [0, 1]."""
    line = (jnp.arange(size, dtype=jnp.float32) + 0.5) / size
    x, y = jnp.meshgrid(line, line)
    return Points(x, y, 1.0)


def local_frame(
    p: Points,
    origin: Sequence[Number] | Array,
    scale: Number,
    mirror: Number = 1.0,
    angle: Number = 0.0,
) -> Points:
    """The points seen from a frame at `origin`, `scale` units long, turned by `angle` radians."""
    x, y = (p.x - origin[0]) / scale * mirror, (p.y - origin[1]) / scale
    c, s = jnp.cos(angle), jnp.sin(angle)
    return Points(c * x + s * y, -s * x + c * y, p.unit * scale)


def circle(p: Points, cx, cy, r) -> Plane:
    return jnp.sqrt((p.x - cx) ** 2 + (p.y - cy) ** 2 + 1e-9) - r


def ellipse(p: Points, cx, cy, rx, ry, angle=0.0) -> Plane:
    """First-order distance to an ellipse (exact on its edge, which is where coverage reads it)."""
    c, s = jnp.cos(angle), jnp.sin(angle)
    dx, dy = p.x - cx, p.y - cy
    u, v = (c * dx + s * dy) / rx, (-s * dx + c * dy) / ry
    k = jnp.sqrt(u * u + v * v + 1e-9)
    gradient = jnp.sqrt((u / rx) ** 2 + (v / ry) ** 2 + 1e-9)
    return k * (k - 1.0) / gradient


def capsule(p: Points, ax, ay, bx, by, ra, rb=None) -> Plane:
    """A line from a to b whose radius goes from `ra` to `rb`."""
    rb = ra if rb is None else rb
    vx, vy = bx - ax, by - ay
    t = ((p.x - ax) * vx + (p.y - ay) * vy) / (vx * vx + vy * vy + 1e-9)
    t = jnp.clip(t, 0.0, 1.0)
    dx, dy = p.x - ax - t * vx, p.y - ay - t * vy
    return jnp.sqrt(dx * dx + dy * dy + 1e-9) - (ra + (rb - ra) * t)


def box(p: Points, cx, cy, hx, hy, r=0.0) -> Plane:
    """A rectangle of half sizes (hx, hy) with corners rounded by `r`."""
    qx, qy = jnp.abs(p.x - cx) - hx + r, jnp.abs(p.y - cy) - hy + r
    outside = jnp.sqrt(jnp.maximum(qx, 0.0) ** 2 + jnp.maximum(qy, 0.0) ** 2 + 1e-9)
    return outside + jnp.minimum(jnp.maximum(qx, qy), 0.0) - r


def polygon(p: Points, *corners) -> Plane:
    """A convex polygon, its corners clockwise on the screen: the largest half-plane distance."""
    d = jnp.full_like(p.x, -jnp.inf)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = jnp.sqrt((bx - ax) ** 2 + (by - ay) ** 2 + 1e-9)
        side = ((p.x - ax) * (by - ay) - (p.y - ay) * (bx - ax)) / length
        d = jnp.maximum(d, side)
    return d


def union(*shapes: Plane) -> Plane:
    d = shapes[0]
    for other in shapes[1:]:
        d = jnp.minimum(d, other)
    return d


class Pen(NamedTuple):
    """How fills become pixels: the picture's size, its style and the light."""

    size: int  # pixels per side at which coverage is computed
    style: Float[Array, ""]  # 0 photo, 1 sketch
    hatch: Plane  # pencil strokes, 0 (paper shows) .. 1 (pencil)
    light: Float[Array, "2"]  # direction, strength


def hatching(grid: Points, angle, phase) -> Plane:
    """Pencil strokes over the whole picture: soft parallel lines."""
    along = grid.x * jnp.cos(angle) + grid.y * jnp.sin(angle)
    return 0.5 + 0.5 * jnp.sin(along * (2 * jnp.pi / 0.1) + phase)


def paint(canvas, pen: Pen, p: Points, d: Plane, colour, lift=0.0, ink=1.0):
    """Paints one shape and returns the new canvas.

    Args:
        canvas: (h, w, 3) in [0, 1].
        pen: see `Pen`.
        p: the frame in which `d` was measured (its unit scales `d` to the picture).
        d: signed distance, in units of `p`.
        colour: (3,) or (h, w, 3) RGB.
        lift: how round the shape looks in the photo style (0 flat .. 1).
        ink: strength of the outline in the sketch style.
    """
    distance = d * p.unit  # in picture sides
    cover = jnp.clip(0.5 - distance * pen.size, 0.0, 1.0)[..., None]
    colour = jnp.broadcast_to(colour, canvas.shape)
    depth = jnp.exp(jnp.minimum(distance, 0.0) / 0.02)[..., None]  # 1 at the edge, 0 inside
    slope = (-p.y - 0.6 * pen.light[0] * p.x)[..., None]  # brighter towards the light
    photo = colour * (1.0 - 0.38 * lift * depth) + lift * 0.09 * jnp.clip(slope, -1.2, 1.2)
    strokes = (0.58 + 0.18 * pen.hatch)[..., None]
    sketch = PAPER * (1.0 - strokes) + (0.92 * colour) * strokes
    fill = photo + pen.style * (sketch - photo)
    canvas = canvas + cover * (fill - canvas)
    width = 0.0075
    line = jnp.clip(0.5 - (jnp.abs(distance) - width) * pen.size, 0.0, 1.0)[..., None]
    return canvas + line * pen.style * ink * 0.8 * (GRAPHITE - canvas)
