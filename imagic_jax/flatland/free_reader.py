"""Reading factors off a picture whose nuisance is not known, e.g. one drawn from text alone.

Analysis-by-synthesis again, now fitting the nuisance as well: the nearest pictures of a large bank
propose (f, u), gradient descent through the renderer refines each u, and the factors of the best
explanation are read, after one more look at every single-factor neighbour under the refined u.
"""

import functools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import nuisance, splits
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import Nuisance
from imagic_jax.flatland.reader import blur
from imagic_jax.flatland.render import render_class

SIZE = 32  # free fits run at this size; every factor can be seen at it
_SOFT = 1.0  # blur under which bank pictures are compared, pixels
_CHUNK = 64  # rows of one program
#: Rounds of refinement: steps, and how many explanations per picture stay after them.
_ROUNDS = ((10, 2), (30, 1))

#: Step sizes of the refinement per leaf: about a tenth of each law's half width.
_RATES: dict[str, float] = {
    "position": 0.01,
    "scale": 0.004,
    "facing": 0.0,
    "hue": 0.003,
    "tone": 0.01,
    "light": 0.01,
    "horizon": 0.008,
    "sky": 0.008,
    "sun": 0.02,
    "clouds": 0.015,
    "lands": 0.015,
    "texture": 0.0,
    "hatch": 0.05,
    "mark": 0.0,
    "mark_on": 0.0,
}

#: What the widest law draws: refinement stays inside.
_BOUNDS = {
    "hue": (-0.02, 0.02),
    "tone": (0.94, 1.04),
    "sky": (-0.04, 0.04),
    "scale": (0.22, 0.28),
    "light": (-1.0, 1.0),
    "horizon": (0.46, 0.58),
}


class FreeReading(NamedTuple):
    """What the reader sees in one picture."""

    factors: Factors
    nuisance: Nuisance
    residual: float  # mean squared error per value at 32 x 32, [0, 1] units


class Bank(NamedTuple):
    """Known pictures to propose explanations from."""

    factors: Factors  # int32 (n,)
    nuisance: Nuisance  # leading axis n
    soft: Float[np.ndarray, "n values"]  # blurred pictures, flattened


@functools.cache
def bank(count: int = 16384, seed: int = 0) -> Bank:
    """Draws the bank: all valid factors evenly, nuisance from the training law."""
    rng = random.Random(seed)
    everything = list(fx.all_factors())
    f = splits.as_arrays([rng.choice(everything) for _ in range(count)])
    u = jax.vmap(nuisance.sample)(jax.random.split(jax.random.key(seed), count))
    pictures = _by_class(_draw_class, f, u)
    return Bank(f, u, blur(pictures, _SOFT).reshape(count, -1))


def _by_class(program: Callable[..., Any], f: Factors, *rest: Any) -> Any:
    """Runs `program(cls, f, *rest)` over rows of one class at a time, in chunks of one size.

    Under vmap, a switch over classes would draw every class for every picture.
    """
    classes = np.asarray(f.cls)
    out, order = [], []
    for cls in np.unique(classes):
        rows = np.flatnonzero(classes == cls)
        for start in range(0, len(rows), _CHUNK):
            part = rows[start : start + _CHUNK]
            padded = np.pad(part, (0, _CHUNK - len(part)), mode="edge")
            chunk = jax.tree.map(lambda a, r=padded: a[r], (f, *rest))
            made = jax.device_get(program(int(cls), *chunk))
            out.append(jax.tree.map(lambda a, p=part: a[: len(p)], made))
            order.append(part)
    back = np.argsort(np.concatenate(order))
    return jax.tree.map(lambda *a: np.concatenate(a)[back], *out)


@functools.partial(jax.jit, static_argnums=0)
def _draw_class(cls: int, f: Factors, u: Nuisance) -> Float[Array, "k h w 3"]:
    return jax.vmap(lambda f, u: render_class(cls, f, u, SIZE, 1))(f, u)


@functools.partial(jax.jit, static_argnums=0)
def _errors(
    cls: int, f: Factors, u: Nuisance, pictures: Float[Array, "k h w 3"]
) -> Float[Array, " k"]:
    """Errors of factor assignments of one class, each under its own nuisance."""
    return jnp.mean(jnp.square(_draw_class(cls, f, u) - pictures), axis=(1, 2, 3))


@functools.partial(jax.jit, static_argnums=0)
def _refine(
    cls: int,
    f: Factors,
    u: Nuisance,
    pictures: Float[Array, "k h w 3"],
    steps: Int[Array, " k"],
) -> tuple[Nuisance, Float[Array, " k"]]:
    """Adam on every row's nuisance for `steps[0]` steps, inside the law's bounds.

    Without bounds a yellow ball is explained as an orange one with its hue turned.
    """
    rates = Nuisance(*(jnp.full_like(a, _RATES[n]) for n, a in u._asdict().items()))
    count = steps[0]

    def total(u):
        return _errors(cls, f, u, pictures).sum()

    def body(i, carry):
        u, m, v = carry
        g = jax.grad(total)(u)
        m = jax.tree.map(lambda m, g: 0.8 * m + 0.2 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, v, g)
        fade = 1.0 - 0.9 * i / count
        u = jax.tree.map(lambda u, m, v, r: u - fade * r * m / (jnp.sqrt(v) + 1e-7), u, m, v, rates)
        bounded = {n: jnp.clip(getattr(u, n), *limits) for n, limits in _BOUNDS.items()}
        return u._replace(**bounded), m, v

    zero = jax.tree.map(jnp.zeros_like, u)
    u, _, _ = jax.lax.fori_loop(0, count, body, (u, zero, zero))
    return u, _errors(cls, f, u, pictures)


def _propose(picture: np.ndarray, known: Bank, count: int) -> np.ndarray:
    """Rows of the nearest bank pictures, at most two of one class, state and style."""
    y = blur(picture[None], _SOFT).reshape(-1)
    distance = np.square(known.soft - y).sum(axis=1)
    kinds = np.stack([np.asarray(getattr(known.factors, n)) for n in ("cls", "state", "style")], 1)
    chosen: list[int] = []
    seen: dict[tuple[int, ...], int] = {}
    for row in np.argsort(distance):
        kind = tuple(kinds[row].tolist())
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= 2:
            chosen.append(int(row))
        if len(chosen) == count:
            break
    return np.array(chosen)


def read_free(pictures: Float[np.ndarray, "n 32 32 3"], proposals: int = 5) -> list[FreeReading]:
    """Reads pictures, (n, 32, 32, 3) in [0, 1], one by one but computed together.

    Args:
        pictures: what to read.
        proposals: explanations per picture that are tried; the best few are worked out.
    """
    known = bank()
    rows = np.stack([_propose(p, known, proposals) for p in pictures])
    f = jax.tree.map(lambda a: a[rows.ravel()], known.factors)
    u = jax.tree.map(lambda a: a[rows.ravel()], known.nuisance)
    for steps, keep in _ROUNDS:
        each = len(np.asarray(f.cls)) // len(pictures)
        many = np.repeat(pictures, each, axis=0)
        u, errors = _by_class(_refine, f, u, many, np.full(len(many), steps))
        order = errors.reshape(-1, each).argsort(axis=1)[:, :keep]
        best = (order + np.arange(len(pictures))[:, None] * each).ravel()
        f, u = jax.tree.map(lambda a, b=best: a[b], (f, u))
    # One more look: every single-factor neighbour of the best, under the same nuisance.
    near, owner = [], []
    for i in range(len(pictures)):
        seen = Factors(*(int(a[i]) for a in f))
        options = [seen, *fx.neighbours(seen)]
        near += options
        owner += [i] * len(options)
    own = np.array(owner)
    under = jax.tree.map(lambda a: a[own], u)
    errors = _by_class(_errors, splits.as_arrays(near), under, pictures[own])
    readings = []
    for i in range(len(pictures)):
        mine = np.flatnonzero(own == i)
        winner = mine[errors[mine].argmin()]
        one = jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), u)
        readings.append(FreeReading(near[winner], one, float(errors[winner])))
    return readings
