"""The six subjects and their states, drawn in a local frame.

The frame's origin is the middle of the body, where the identity mark sits; x points where the
subject looks, y down, and the subject spans about -1..1. States are numbers in small tables, so
that one traced function draws every state of a class.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.flatland.canvas import (
    Pen,
    Points,
    box,
    capsule,
    circle,
    ellipse,
    paint,
    polygon,
    union,
)

Canvas = Float[Array, "h w 3"]

DARK = np.array([0.10, 0.09, 0.11], np.float32)
BEAK = np.array([0.96, 0.62, 0.12], np.float32)
GLASS = np.array([0.72, 0.86, 0.94], np.float32)
CREAM = np.array([0.99, 0.95, 0.86], np.float32)
STEM = np.array([0.24, 0.55, 0.22], np.float32)
HAT = np.array([0.86, 0.12, 0.52], np.float32)
HAT_BAND = np.array([0.98, 0.88, 0.25], np.float32)


class Pose(NamedTuple):
    """What the rest of the picture needs to know of a drawn subject, in local units."""

    head: Float[Array, "2"]  # where a hat sits
    tilt: Float[Array, ""]  # its angle, radians
    mark_angle: Float[Array, ""]  # the body's turn, carried by the mark
    ground: Float[Array, "2"]  # (half width, y) of the shadow on the ground


def _hide(d, visible):
    """Moves a shape out of sight where `visible` is 0."""
    return d + 9.0 * (1.0 - visible)


def bird(canvas: Canvas, pen: Pen, p: Points, state, colour) -> tuple[Canvas, Pose]:
    """0 folded, 1 spread."""
    spread = state.astype(jnp.float32)
    dark = colour * 0.62
    for lx in (-0.12, 0.14):
        leg = union(
            capsule(p, lx, 0.35, lx, 0.92, 0.045),
            capsule(p, lx - 0.04, 0.93, lx + 0.15, 0.93, 0.045),
        )
        canvas = paint(canvas, pen, p, leg, BEAK * 0.85, ink=0.4)
    far = union(
        capsule(p, 0.05, -0.2, 0.85, -1.08, 0.2, 0.1),
        capsule(p, 0.1, -0.12, 1.12, -0.82, 0.2, 0.09),
        capsule(p, 0.12, 0.0, 1.2, -0.5, 0.18, 0.08),
    )
    canvas = paint(canvas, pen, p, _hide(far, spread), dark * 0.85, 0.5)
    tail = capsule(p, -0.5, 0.08, -1.12, 0.3, 0.13, 0.2)
    canvas = paint(canvas, pen, p, tail, dark, 0.6)
    body = ellipse(p, -0.1, 0.05, 0.68, 0.47, -0.12)
    canvas = paint(canvas, pen, p, body, colour, 1.0)
    canvas = paint(
        canvas, pen, p, polygon(p, (0.72, -0.62), (1.05, -0.48), (0.72, -0.36)), BEAK, 0.3, 0.6
    )
    canvas = paint(canvas, pen, p, circle(p, 0.5, -0.5, 0.31), colour, 0.8)
    canvas = _eye(canvas, pen, p, 0.6, -0.56)
    folded = union(
        ellipse(p, -0.62, -0.05, 0.44, 0.22, 0.3), ellipse(p, -0.52, -0.16, 0.34, 0.22, 0.3)
    )
    canvas = paint(canvas, pen, p, _hide(folded, 1.0 - spread), dark, 0.8)
    near = union(
        capsule(p, -0.3, -0.22, -0.62, -1.12, 0.22, 0.11),
        capsule(p, -0.38, -0.15, -1.0, -0.92, 0.22, 0.1),
        capsule(p, -0.42, -0.05, -1.24, -0.58, 0.2, 0.09),
    )
    canvas = paint(canvas, pen, p, _hide(near, spread), dark, 0.8)
    return canvas, Pose(
        jnp.array([0.47, -0.76]), jnp.float32(0.08), jnp.float32(0.0), jnp.array([0.6, 0.96])
    )


def _eye(canvas: Canvas, pen: Pen, p: Points, x, y) -> Canvas:
    canvas = paint(canvas, pen, p, circle(p, x, y, 0.085), CREAM, 0.0, 0.5)
    return paint(canvas, pen, p, circle(p, x + 0.02, y, 0.055), DARK, 0.0, 0.0)


# Dog joints per state (standing, sitting, jumping): (x, y) pairs.
_DOG = {
    "rump": ((-0.5, 0.02), (-0.28, 0.3), (-0.48, 0.16)),
    "chest": ((0.46, -0.02), (0.22, -0.25), (0.46, -0.16)),
    "head": ((0.74, -0.56), (0.46, -0.78), (0.82, -0.6)),
    "tail_a": ((-0.72, -0.1), (-0.5, 0.62), (-0.7, 0.08)),
    "tail_b": ((-1.08, -0.55), (-1.0, 0.36), (-1.15, -0.25)),
    "hind1_a": ((-0.52, 0.1), (-0.3, 0.5), (-0.55, 0.2)),
    "hind1_b": ((-0.6, 0.95), (0.06, 0.9), (-1.15, 0.62)),
    "hind2_a": ((-0.4, 0.1), (-0.3, 0.55), (-0.4, 0.25)),
    "hind2_b": ((-0.3, 0.95), (-0.12, 0.92), (-0.9, 0.82)),
    "fore1_a": ((0.42, 0.1), (0.24, -0.05), (0.45, 0.0)),
    "fore1_b": ((0.34, 0.95), (0.34, 0.92), (1.12, 0.16)),
    "fore2_a": ((0.5, 0.1), (0.36, -0.1), (0.45, 0.1)),
    "fore2_b": ((0.64, 0.95), (0.56, 0.92), (0.98, 0.44)),
}
_DOG_HAUNCH = (0.0, 1.0, 0.0)
_DOG_MARK = (0.0, -0.2, -0.22)
_DOG_SHADOW = ((0.85, 0.98), (0.6, 0.97), (0.7, 1.0))


def dog(canvas: Canvas, pen: Pen, p: Points, state, colour) -> tuple[Canvas, Pose]:
    """0 standing, 1 sitting, 2 jumping."""
    joint = {name: jnp.array(table)[state] for name, table in _DOG.items()}

    def limb(a, b, ra, rb):
        return capsule(p, joint[a][0], joint[a][1], joint[b][0], joint[b][1], ra, rb)

    dark = colour * 0.68
    canvas = paint(canvas, pen, p, limb("hind2_a", "hind2_b", 0.17, 0.1), dark, 0.5)
    canvas = paint(canvas, pen, p, limb("fore2_a", "fore2_b", 0.14, 0.1), dark, 0.5)
    canvas = paint(canvas, pen, p, limb("tail_a", "tail_b", 0.1, 0.06), colour, 0.5)
    torso = union(limb("rump", "chest", 0.34, 0.35), limb("chest", "head", 0.3, 0.2))
    haunch = jnp.array(_DOG_HAUNCH)[state]
    sitting = _hide(circle(p, -0.3, 0.58, 0.36), haunch)
    canvas = paint(canvas, pen, p, union(torso, sitting), colour, 0.9)
    canvas = paint(canvas, pen, p, limb("hind1_a", "hind1_b", 0.18, 0.11), colour, 0.5)
    canvas = paint(canvas, pen, p, limb("fore1_a", "fore1_b", 0.15, 0.11), colour, 0.5)
    hx, hy = joint["head"][0], joint["head"][1]
    snout = capsule(p, hx + 0.1, hy + 0.06, hx + 0.4, hy + 0.12, 0.19, 0.14)
    canvas = paint(canvas, pen, p, union(circle(p, hx, hy, 0.3), snout), colour, 0.8)
    canvas = paint(canvas, pen, p, circle(p, hx + 0.5, hy + 0.06, 0.085), DARK, 0.0, 0.3)
    canvas = paint(
        canvas, pen, p, ellipse(p, hx - 0.16, hy + 0.08, 0.14, 0.3, 0.25), dark * 0.7, 0.5
    )
    canvas = _eye(canvas, pen, p, hx + 0.14, hy - 0.06)
    return canvas, Pose(
        jnp.stack([hx - 0.02, hy - 0.24]),
        jnp.float32(-0.1),
        jnp.array(_DOG_MARK)[state],
        jnp.array(_DOG_SHADOW)[state],
    )


def cake(canvas: Canvas, pen: Pen, p: Points, state, colour) -> tuple[Canvas, Pose]:
    """0 plain, 1 with three burning candles."""
    lit = state.astype(jnp.float32)
    plate = jnp.array([0.86, 0.88, 0.9])
    canvas = paint(canvas, pen, p, ellipse(p, 0.0, 0.62, 1.25, 0.14), plate, 0.6)
    for cx in (-0.48, 0.0, 0.48):
        stick = _hide(box(p, cx, -0.78, 0.06, 0.3, 0.03), lit)
        canvas = paint(canvas, pen, p, stick, jnp.array([0.98, 0.98, 0.98]), 0.3, 0.6)
        glow = jnp.array([1.0, 0.78, 0.2])
        flame = union(
            circle(p, cx, -1.16, 0.1),
            polygon(p, (cx, -1.42), (cx + 0.09, -1.18), (cx - 0.09, -1.18)),
        )
        canvas = paint(canvas, pen, p, _hide(flame, lit), glow, 0.0, 0.5)
        core = _hide(circle(p, cx, -1.14, 0.05), lit)
        canvas = paint(canvas, pen, p, core, jnp.array([1.0, 0.45, 0.1]), 0.0, 0.0)
    canvas = paint(canvas, pen, p, box(p, 0.0, 0.05, 1.0, 0.56, 0.12), colour, 1.0)
    layer = box(p, 0.0, 0.36, 1.0, 0.05, 0.02)
    canvas = paint(canvas, pen, p, layer, colour * 0.72, 0.0, 0.3)
    drips = [box(p, 0.0, -0.42, 1.04, 0.13, 0.1)]
    for cx, cy in ((-0.82, -0.22), (-0.42, -0.27), (0.42, -0.24), (0.84, -0.2)):
        drips.append(capsule(p, cx, -0.42, cx, cy, 0.11))
    canvas = paint(canvas, pen, p, union(*drips), CREAM, 0.5)
    return canvas, Pose(
        jnp.array([0.0, -0.6]), jnp.float32(0.0), jnp.float32(0.0), jnp.array([1.25, 0.7])
    )


def car(canvas: Canvas, pen: Pen, p: Points, state, colour) -> tuple[Canvas, Pose]:
    """0 closed, 1 convertible (roof down)."""
    is_open = state.astype(jnp.float32)
    closed = 1.0 - is_open
    roof = polygon(p, (-0.62, -0.82), (0.28, -0.82), (0.72, -0.2), (-0.92, -0.2))
    canvas = paint(canvas, pen, p, _hide(roof, closed) - 0.06, colour, 0.8)
    rear = polygon(p, (-0.56, -0.72), (-0.2, -0.72), (-0.2, -0.3), (-0.76, -0.3))
    front = polygon(p, (-0.06, -0.72), (0.22, -0.72), (0.54, -0.3), (-0.06, -0.3))
    canvas = paint(canvas, pen, p, _hide(union(rear, front), closed), GLASS, 0.3, 0.7)
    for sx in (-0.55, 0.02):
        seat = capsule(p, sx, -0.2, sx - 0.06, -0.5, 0.13, 0.15)
        canvas = paint(canvas, pen, p, _hide(seat, is_open), jnp.array([0.42, 0.26, 0.18]), 0.4)
    screen = capsule(p, 0.56, -0.25, 0.36, -0.7, 0.065)
    canvas = paint(canvas, pen, p, _hide(screen, is_open), GLASS, 0.0, 0.8)
    body = union(box(p, 0.0, 0.08, 1.15, 0.34, 0.22), box(p, 0.1, 0.22, 1.12, 0.24, 0.12))
    canvas = paint(canvas, pen, p, body, colour, 1.0)
    canvas = paint(
        canvas, pen, p, ellipse(p, 1.06, 0.04, 0.1, 0.12), jnp.array([1.0, 0.95, 0.6]), 0.0, 0.6
    )
    for wx in (-0.66, 0.68):
        canvas = paint(canvas, pen, p, circle(p, wx, 0.48, 0.3), DARK, 0.2)
        canvas = paint(
            canvas, pen, p, circle(p, wx, 0.48, 0.13), jnp.array([0.8, 0.8, 0.82]), 0.2, 0.5
        )
    return canvas, Pose(
        jnp.array([0.0, -0.8]), jnp.float32(0.0), jnp.float32(0.0), jnp.array([1.15, 0.78])
    )


def ball(canvas: Canvas, pen: Pen, p: Points, state, colour) -> tuple[Canvas, Pose]:
    """A beach ball with two pale seams; one state."""
    del state
    disc = circle(p, 0.0, 0.0, 0.84)
    canvas = paint(canvas, pen, p, disc, colour, 1.2)
    pale = 0.55 * colour + 0.45
    for side in (-1.0, 1.0):
        seam = jnp.abs(circle(p, side * 1.25, -0.2, 0.82)) - 0.09
        canvas = paint(canvas, pen, p, jnp.maximum(seam, disc + 0.05), pale, 0.0, 0.4)
    canvas = paint(
        canvas, pen, p, ellipse(p, 0.28, -0.5, 0.17, 0.1, 0.5), jnp.array([1.0, 1.0, 1.0]), 0.0, 0.0
    )
    return canvas, Pose(
        jnp.array([0.0, -0.8]), jnp.float32(0.0), jnp.float32(0.0), jnp.array([0.75, 0.86])
    )


def flower(canvas: Canvas, pen: Pen, p: Points, state, colour) -> tuple[Canvas, Pose]:
    """0 a closed bud, 1 in bloom."""
    bloom = state.astype(jnp.float32)
    bud = 1.0 - bloom
    canvas = paint(canvas, pen, p, capsule(p, 0.0, 0.2, 0.06, 1.12, 0.07), STEM, 0.4)
    leaves = union(
        ellipse(p, -0.32, 0.86, 0.36, 0.13, 0.5), ellipse(p, 0.42, 0.8, 0.36, 0.13, -0.55)
    )
    canvas = paint(canvas, pen, p, leaves, STEM * 1.1, 0.5)
    petals = []
    for k in range(7):
        a = 2 * jnp.pi * (k + 0.25) / 7
        petals.append(circle(p, 0.6 * jnp.cos(a), 0.6 * jnp.sin(a), 0.32))
    ring = union(*petals)
    canvas = paint(canvas, pen, p, _hide(ring, bloom), colour, 0.9)
    heart = circle(p, 0.0, 0.0, 0.42)
    canvas = paint(canvas, pen, p, _hide(heart, bloom), jnp.array([0.55, 0.36, 0.16]), 0.7, 0.8)
    egg = union(
        ellipse(p, 0.0, 0.05, 0.5, 0.56), polygon(p, (0.0, -0.98), (0.42, -0.2), (-0.42, -0.2))
    )
    canvas = paint(canvas, pen, p, _hide(egg, bud), colour, 1.0)
    fold = jnp.maximum(egg + 0.02, jnp.abs(circle(p, 0.5, -0.5, 0.62)) - 0.03)
    canvas = paint(canvas, pen, p, _hide(fold, bud), colour * 0.7, 0.0, 0.3)
    sepals = union(
        polygon(p, (-0.46, 0.05), (-0.1, 0.42), (-0.3, 0.52)),
        polygon(p, (0.46, 0.05), (0.3, 0.52), (0.1, 0.42)),
        ellipse(p, 0.0, 0.48, 0.34, 0.14),
    )
    canvas = paint(canvas, pen, p, _hide(sepals, bud), STEM, 0.5)
    return canvas, Pose(
        jnp.array([0.0, -0.8]), jnp.float32(0.0), jnp.float32(0.0), jnp.array([0.45, 1.14])
    )


#: In the order of `factors.CLASSES`.
DRAW = (bird, dog, cake, car, ball, flower)


def hat(canvas: Canvas, pen: Pen, p: Points, visible) -> Canvas:
    """A party hat; the frame's origin is the top of the head, y up the hat is negative."""
    cone = polygon(p, (0.0, -0.72), (0.32, 0.06), (-0.32, 0.06))
    canvas = paint(canvas, pen, p, _hide(cone, visible), HAT, 0.6)
    band = jnp.maximum(cone, jnp.abs(p.y + 0.2) - 0.07)
    canvas = paint(canvas, pen, p, _hide(band, visible), HAT_BAND, 0.0, 0.0)
    return paint(canvas, pen, p, _hide(circle(p, 0.0, -0.74, 0.12), visible), HAT_BAND, 0.4)
