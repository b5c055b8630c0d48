"""Reading factors off a picture whose nuisance is not known, e.g. one drawn from text alone.

Analysis-by-synthesis again, now fitting the nuisance as well: the nearest pictures of a large bank
propose (f, u), gradient descent through the renderer refines each u, and the factors of the best
explanation are read, after one more look at every single-factor neighbour under the refined u.
"""

import functools
import random
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import nuisance, splits
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import Nuisance
from imagic_jax.flatland.reader import blur
from imagic_jax.flatland.render import render, render_many

SIZE = 32  # free fits run at this size; every factor can be seen at it
_SOFT = 1.0  # blur under which bank pictures are compared, pixels

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
    pictures = np.asarray(render_many(f, u, SIZE, 1))
    return Bank(f, u, blur(pictures, _SOFT).reshape(count, -1))


def _propose(picture: np.ndarray, known: Bank, count: int) -> np.ndarray:
    """Rows of the nearest bank pictures, at most two of one class, state and style."""
    y = blur(picture[None], _SOFT).reshape(-1)
    distance = np.square(known.soft - y).sum(axis=1)
    chosen, seen = [], {}
    for row in np.argsort(distance):
        kind = tuple(int(getattr(known.factors, n)[row]) for n in ("cls", "state", "style"))
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] <= 2:
            chosen.append(row)
        if len(chosen) == count:
            break
    return np.array(chosen)


@functools.partial(jax.jit, static_argnames="steps")
def _refine(
    f: Factors, u: Nuisance, picture: Float[Array, "h w 3"], steps: int = 60
) -> tuple[Nuisance, Float[Array, "k"]]:
    """Adam on each candidate's nuisance; returns the refined nuisances and their errors."""

    def error(u, f):
        return jnp.mean(jnp.square(render(f, u, SIZE, 1) - picture))

    def one(candidate):
        f, u = candidate
        rates = Nuisance(*(jnp.full_like(a, _RATES[n]) for n, a in u._asdict().items()))

        def body(i, carry):
            u, m, v = carry
            g = jax.grad(error)(u, f)
            m = jax.tree.map(lambda m, g: 0.8 * m + 0.2 * g, m, g)
            v = jax.tree.map(lambda v, g: 0.95 * v + 0.05 * g * g, v, g)
            fade = 1.0 - 0.9 * i / steps
            u = jax.tree.map(
                lambda u, m, v, r: u - fade * r * m / (jnp.sqrt(v) + 1e-7), u, m, v, rates
            )
            return u, m, v

        zero = jax.tree.map(jnp.zeros_like, u)
        u, _, _ = jax.lax.fori_loop(0, steps, body, (u, zero, zero))
        return u, error(u, f)

    return jax.lax.map(one, (f, u))


@jax.jit
def _errors(f: Factors, u: Nuisance, picture: Float[Array, "h w 3"]) -> Float[Array, "k"]:
    """Errors of many factor assignments under one nuisance."""
    return jax.lax.map(lambda g: jnp.mean(jnp.square(render(g, u, SIZE, 1) - picture)), f)


def read_free(picture: Float[np.ndarray, "32 32 3"], proposals: int = 8) -> FreeReading:
    """Reads one picture, (32, 32, 3) in [0, 1]."""
    known = bank()
    rows = _propose(picture, known, proposals)
    f = jax.tree.map(lambda a: jnp.asarray(a[rows]), known.factors)
    u = jax.tree.map(lambda a: a[rows], known.nuisance)
    target = jnp.asarray(picture, jnp.float32)
    refined, errors = _refine(f, u, target)
    best = int(np.argmin(errors))
    seen = Factors(*(int(a[best]) for a in f))
    fitted = jax.tree.map(lambda a: a[best], refined)
    near = [seen, *fx.neighbours(seen)]
    padded = splits.as_arrays(near + [seen] * (-len(near) % 32))
    errors = np.asarray(_errors(padded, fitted, target))[: len(near)]
    winner = int(np.argmin(errors))
    return FreeReading(near[winner], fitted, float(errors[winner]))


def read_all(pictures: Sequence[np.ndarray], proposals: int = 8) -> list[FreeReading]:
    """`read_free` of many pictures."""
    return [read_free(p, proposals) for p in pictures]
