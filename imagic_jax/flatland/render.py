"""Rendering: `x = R(f, u)`, a pure, jittable, differentiable function (evaluation: 4.2).

`render_class` draws one class (a static index) and is what batches are made of: under vmap a
`lax.switch` over classes would draw all six for every picture. `render` takes any factors.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.flatland import factors, places, subjects
from imagic_jax.flatland.canvas import Pen, Points, box, hatching, local_frame, paint, pixel_grid
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import MARK_COLUMNS, MARK_ROWS, Nuisance

Picture = Float[Array, "h w 3"]

#: RGB of `factors.COLOURS`.
PALETTE = np.array(
    [
        [0.86, 0.13, 0.12],
        [0.97, 0.52, 0.08],
        [0.97, 0.85, 0.16],
        [0.13, 0.66, 0.30],
        [0.13, 0.36, 0.90],
        [0.52, 0.20, 0.74],
        [0.98, 0.55, 0.72],
        [0.95, 0.95, 0.93],
    ],
    np.float32,
)
MARK_CELL = 0.19  # side of one mark cell, in local units


def _turn_hue(rgb: Float[Array, "3"], turns) -> Float[Array, "3"]:
    """Rotates a colour about the grey axis (Rodrigues), so its lightness stays."""
    angle = 2 * jnp.pi * turns
    c, s = jnp.cos(angle), jnp.sin(angle)
    grey = jnp.mean(rgb)
    cross = jnp.stack([rgb[2] - rgb[1], rgb[0] - rgb[2], rgb[1] - rgb[0]]) / jnp.sqrt(3.0)
    return jnp.clip(rgb * c + cross * s + grey * (1 - c), 0.0, 1.0)


def _mark(canvas, pen: Pen, p, bits, visible):
    """Paints the 2 x 3 identity mark; the frame's origin is its middle."""
    width, height = MARK_COLUMNS * MARK_CELL / 2, MARK_ROWS * MARK_CELL / 2
    flat = pen._replace(style=jnp.float32(0.0))  # the mark looks the same in every style
    frame = box(p, 0.0, 0.0, width + 0.035, height + 0.035, 0.02) + 9.0 * (1.0 - visible)
    canvas = paint(canvas, flat, p, frame, jnp.array([0.45, 0.43, 0.42]))
    for row in range(MARK_ROWS):
        for column in range(MARK_COLUMNS):
            x = (column - (MARK_COLUMNS - 1) / 2) * MARK_CELL
            y = (row - (MARK_ROWS - 1) / 2) * MARK_CELL
            cell = box(p, x, y, MARK_CELL / 2, MARK_CELL / 2) + 9.0 * (1.0 - visible)
            tone = 0.04 + 0.94 * bits[row * MARK_COLUMNS + column]
            canvas = paint(canvas, flat, p, cell, jnp.full((3,), tone))
    return canvas


def render_class(cls: int, f: Factors, u: Nuisance, size: int, oversample: int = 2) -> Picture:
    """Draws one picture whose class is the static index `cls` (`f.cls` is not read).

    Args:
        cls: class index, a Python int.
        f: the other factors, traced.
        u: nuisance.
        size: pixels per side.
        oversample: coverage is computed on a grid this many times finer, then averaged.

    Returns:
        (size, size, 3) in [0, 1].
    """
    return _compose(functools.partial(_subject, cls), f, u, size, oversample)


def render(f: Factors, u: Nuisance, size: int, oversample: int = 2) -> Picture:
    """Draws any factors, all traced: (size, size, 3) in [0, 1]. For one picture or `lax.map`."""
    branches = [functools.partial(_subject, c) for c in range(len(factors.CLASSES))]
    which = jnp.asarray(f.cls, jnp.int32)
    return _compose(lambda *a: jax.lax.switch(which, branches, *a), f, u, size, oversample)


def _subject(cls: int, canvas, pen: Pen, p: Points, state, colour):
    """The subject of one class and its shadow: (canvas, pose)."""
    # The pose (for the shadow below the subject) comes out of drawing on a throw-away canvas:
    # XLA removes the drawing and keeps the numbers.
    _, pose = subjects.DRAW[cls](canvas, pen, p, state, colour)
    canvas = places.shadow(canvas, pen, p, pose.ground[0], pose.ground[1])
    return subjects.DRAW[cls](canvas, pen, p, state, colour)


def _compose(draw_subject, f: Factors, u: Nuisance, size: int, oversample: int) -> Picture:
    """Background, subject, mark, hat, light: back to front."""
    grid, pen = _setup(f, u, size * oversample)
    canvas = jnp.zeros((*grid.x.shape, 3))
    canvas = places.background(canvas, pen, grid, jnp.asarray(f.place, jnp.int32), u)
    canvas = _foreground(canvas, draw_subject, grid, pen, f, u)
    ramp = (grid.x - 0.5)[..., None] * u.light[0] * u.light[1] * 2.0
    return _coarse(jnp.clip(canvas * (1.0 + ramp), 0.0, 1.0), oversample)


def _setup(f: Factors, u: Nuisance, fine: int) -> tuple[Points, Pen]:
    grid = pixel_grid(fine)
    hatch = hatching(grid, u.hatch[0], u.hatch[1])
    return grid, Pen(fine, jnp.asarray(f.style, jnp.float32), hatch, u.light)


def _foreground(canvas, draw_subject, grid: Points, pen: Pen, f: Factors, u: Nuisance):
    """Subject, mark and hat."""
    state = jnp.asarray(f.state, jnp.int32)
    p = local_frame(grid, u.position, u.scale, u.facing)
    colour = _turn_hue(jnp.asarray(PALETTE)[jnp.asarray(f.colour, jnp.int32)], u.hue) * u.tone
    canvas, pose = draw_subject(canvas, pen, p, state, colour)
    mirror_free = local_frame(grid, u.position, u.scale)  # a mark never reads backwards
    body = local_frame(mirror_free, (0.0, 0.0), 1.0, 1.0, pose.mark_angle * u.facing)
    canvas = _mark(canvas, pen, body, u.mark, u.mark_on)
    head = local_frame(p, pose.head, 1.0, 1.0, pose.tilt)
    return subjects.hat(canvas, pen, head, jnp.asarray(f.accessory, jnp.float32))


def _coarse(canvas: Float[Array, "h w c"], oversample: int) -> Float[Array, "h2 w2 c"]:
    """The mean over every cell of `oversample` x `oversample`."""
    size = canvas.shape[0] // oversample
    return canvas.reshape(size, oversample, size, oversample, -1).mean(axis=(1, 3))


@functools.partial(jax.jit, static_argnames=("size", "oversample"))
def subject_cover(
    f: Factors, u: Nuisance, size: int, oversample: int = 2
) -> Float[Array, "size size"]:
    """How much of each pixel the subject covers, its mark and hat included, in [0, 1].

    Paint mixes with what is below it, so what a white ground shows more than a black one is what
    was left uncovered. The shadow is light, no cover.
    """
    grid, pen = _setup(f, u, size * oversample)
    which = jnp.asarray(f.cls, jnp.int32)

    def over(ground: float) -> Array:
        draw = lambda *a: jax.lax.switch(which, subjects.DRAW, *a)  # noqa: E731
        return _foreground(jnp.full((*grid.x.shape, 3), ground), draw, grid, pen, f, u)

    seen = (over(1.0) - over(0.0)).mean(axis=-1, keepdims=True)
    return jnp.clip(1.0 - _coarse(seen, oversample)[..., 0], 0.0, 1.0)


@functools.partial(jax.jit, static_argnames=("size", "oversample"))
def render_many(f: Factors, u: Nuisance, size: int, oversample: int = 2) -> Float[Array, "n h w 3"]:
    """Draws a list of pictures one after the other: every leaf has a leading axis of length n."""
    return jax.lax.map(lambda fu: render(fu[0], fu[1], size, oversample), (f, u))
