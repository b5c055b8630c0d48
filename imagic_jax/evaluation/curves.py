"""Summaries of a strength sweep (evaluation: 5, "eta curves"): pure functions over arrays.

Arrays are (..., sources, seeds, strengths): leading axes are resamples, so that every summary is a
statistic of `statistics.bootstrap`. Where a strength was found failing or working, positions are
indices into the ascending grid of strengths; the number of strengths itself means "never".
"""

import numpy as np
from jaxtyping import Bool, Float, Int

Curve = Float[np.ndarray, "*batch n k e"]


def mean_curve(values: Curve) -> Float[np.ndarray, "*batch e"]:
    """Means over seeds, then over sources, of every strength; NaN seeds are left out."""
    there = np.isfinite(values)
    seeds = np.where(there, values, 0.0).sum(axis=-2) / np.maximum(there.sum(axis=-2), 1)
    any_seed = there.any(axis=-2)
    return np.where(any_seed, seeds, 0.0).sum(axis=-2) / np.maximum(any_seed.sum(axis=-2), 1)


def fixed(values: Curve, chosen: int) -> np.ndarray:
    """J_fix: the mean at the one strength that validation chose."""
    return np.asarray(mean_curve(values)[..., chosen])


def oracle(values: Curve) -> np.ndarray:
    """J_orc: every source and seed at its own best strength; an upper bound that nobody can use."""
    return np.asarray(mean_curve(np.fmax.reduce(values, axis=-1)[..., None])[..., 0])


def best(values: Curve, ties: Curve) -> int:
    """The strength with the best mean; ties go to the better mean of `ties`, then to the weaker.

    Args:
        values: what is maximised, e.g. joint success.
        ties: what decides between equal means, e.g. success without the gates.
    """
    first, second = mean_curve(values), mean_curve(ties)
    return max(range(len(first)), key=lambda i: (round(first[i], 12), round(second[i], 12), -i))


def hypervolume(kept: Curve, done: Curve) -> np.ndarray:
    """Area of the union of [0, kept] x [0, done] over the strengths: 1 keeps all and does all."""
    return _area(mean_curve(kept), mean_curve(done))


def hull_hypervolume(kept: Curve, done: Curve) -> np.ndarray:
    """The same under the upper convex hull: what flipping coins between strengths can reach."""
    x, y = mean_curve(kept), mean_curve(done)
    shape, strengths = x.shape[:-1], x.shape[-1]
    rows = zip(x.reshape(-1, strengths), y.reshape(-1, strengths), strict=True)
    return np.asarray(np.array([_hull_area(a, b) for a, b in rows]).reshape(shape))


def _area(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    order = np.argsort(-x, axis=-1)
    x, y = np.take_along_axis(x, order, -1), np.take_along_axis(y, order, -1)
    height = np.maximum.accumulate(y, axis=-1)
    width = x - np.concatenate([x[..., 1:], np.zeros_like(x[..., :1])], axis=-1)
    return np.asarray((width * height).sum(axis=-1))


def _hull_area(x: np.ndarray, y: np.ndarray) -> float:
    """Area under the upper hull of the points, their feet on both axes included."""
    points = sorted({(0.0, float(y.max())), (float(x.max()), 0.0), *zip(x, y, strict=True)})
    hull: list[tuple[float, float]] = []
    for p in points:
        while len(hull) > 1 and _turn(hull[-2], hull[-1], p) >= 0:
            hull.pop()
        hull.append(p)
    return float(np.trapezoid([b for _, b in hull], [a for a, _ in hull]))


def _turn(a: tuple[float, float], b: tuple[float, float], c: tuple[float, float]) -> float:
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def at_preservation(
    kept: Curve, done: Curve, level: float
) -> Float[np.ndarray, "*batch"] | np.ndarray:
    """Mean `done` where mean `kept` equals `level`, by interpolation along the sweep.

    Methods are compared at matched preservation, not at their defaults. The last crossing counts
    (the strongest edit that still keeps as much); NaN where the sweep never is at that level.
    """
    x, y = mean_curve(kept), mean_curve(done)
    flat = zip(x.reshape(-1, x.shape[-1]), y.reshape(-1, y.shape[-1]), strict=True)
    return np.asarray(np.array([_crossing(a, b, level) for a, b in flat]).reshape(x.shape[:-1]))


def _crossing(x: np.ndarray, y: np.ndarray, level: float) -> float:
    for i in range(len(x) - 1, 0, -1):
        low, high = sorted((x[i - 1], x[i]))
        if low <= level <= high:
            share = 1.0 if x[i] == x[i - 1] else (level - x[i - 1]) / (x[i] - x[i - 1])
            return float(y[i - 1] + share * (y[i] - y[i - 1]))
    return float("nan")


def onset(done: Bool[np.ndarray, "*batch e"]) -> Int[np.ndarray, "*batch"]:
    """The first strength at which the edit is there; the number of strengths where it never is."""
    return np.where(done.any(axis=-1), done.argmax(axis=-1), done.shape[-1])


def drift(
    preservation: Float[np.ndarray, "*batch e"],
    identity: Float[np.ndarray, "*batch e"],
    shift: Float[np.ndarray, "*batch e"],
    least_identity: float,
) -> Int[np.ndarray, "*batch"]:
    """The first strength at which something else was lost or the frame moved by two pixels."""
    lost = (preservation < 1.0) | (identity < least_identity) | (shift >= 2.0)
    return onset(lost)


def window(joint: Float[np.ndarray, "*batch e"]) -> Float[np.ndarray, "*batch"] | np.ndarray:
    """The share of the grid at which everything is right."""
    return np.asarray((joint == 1.0).mean(axis=-1))
