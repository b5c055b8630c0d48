"""Reading factors off a picture whose nuisance is not known, e.g. one drawn from text alone.

Analysis-by-synthesis again, now fitting the nuisance as well: the nearest pictures of a large bank
propose (f, u), Levenberg-Marquardt through the renderer refines each u, and the factors of the best
explanation are read, after one more look at every single-factor neighbour under the refined u.
Derivatives are differences of pictures: the renderer's gradients take long to compile.
"""

import functools
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import nuisance, splits
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import MARK_BITS, Nuisance
from imagic_jax.flatland.reader import MARK_CODES, blur
from imagic_jax.flatland.render import render_class

SIZE = 32  # free fits run at this size; every factor can be seen at it
_SOFT = 1.0  # blur under which bank pictures are compared, pixels
_CHUNK = 64  # rows of one program
_TOGETHER = 48  # pictures whose derivatives are in memory at once
#: Rounds of refinement: iterations, blur, and how many explanations per picture stay after them.
_ROUNDS = ((4, 2.0, 3), (4, 1.0, 2), (5, 0.0, 1))

#: What is refined, and the differences that derivatives are taken over: a third of a pixel or so,
#: so that the steps of anti-aliased edges are smoothed.
_STEPS: dict[str, float] = {
    "position": 0.01,
    "scale": 0.005,
    "hue": 0.004,
    "tone": 0.02,
    "light": 0.05,
    "horizon": 0.01,
    "sky": 0.01,
    "sun": 0.01,
    "clouds": 0.01,
    "lands": 0.01,
    "hatch": 0.05,
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


def _draw(f: Factors, u: Nuisance, softness: float = 0.0) -> Float[np.ndarray, "n values"]:
    """Pictures of any factors, each under its own nuisance, blurred and flattened."""
    return blur(_by_class(_draw_class, f, u), softness).reshape(len(np.asarray(f.cls)), -1)


def _free(u: Nuisance) -> Float[np.ndarray, "n p"]:
    """The numbers that refinement changes, in the order of `_STEPS`."""
    return np.concatenate([np.reshape(getattr(u, n), (len(u.scale), -1)) for n in _STEPS], axis=1)


def _with_free(u: Nuisance, x: Float[np.ndarray, "n p"]) -> Nuisance:
    """`u` with those numbers replaced."""
    leaves, at = {}, 0
    for name in _STEPS:
        shape = np.shape(getattr(u, name))[1:]
        width = int(np.prod(shape, dtype=int))
        leaves[name] = x[:, at : at + width].reshape(len(x), *shape)
        at += width
    return u._replace(**leaves)


def _bounded(u: Nuisance) -> Nuisance:
    """Inside the law: without it a yellow ball is explained as an orange one, its hue turned."""
    return u._replace(**{n: np.clip(getattr(u, n), *b) for n, b in _BOUNDS.items()})


def _refine(
    f: Factors,
    u: Nuisance,
    pictures: Float[np.ndarray, "n 32 32 3"],
    iterations: int,
    softness: float,
) -> tuple[Nuisance, Float[np.ndarray, " n"]]:
    """Levenberg-Marquardt on every row's nuisance; returns it with its mean squared error.

    Both sides are blurred by `softness` pixels, which pulls shapes from further away.
    """
    widths = np.concatenate([np.full(np.size(getattr(u, k)[0]), h) for k, h in _STEPS.items()])
    n, p = len(pictures), len(widths)
    owner = np.repeat(np.arange(n), p)
    damping = np.full(n, 1e-2)
    goal = blur(pictures, softness).reshape(n, -1)
    drawn = _draw(f, u, softness)
    error = np.square(drawn - goal).mean(axis=1)
    for _ in range(iterations):
        x = _free(u)
        moved = (x[:, None] + np.diag(widths)).reshape(n * p, p)
        owned_f, owned_u = jax.tree.map(lambda a: a[owner], (f, u))
        there = _draw(owned_f, _with_free(owned_u, moved), softness).reshape(n, p, -1)
        jacobian = there - drawn[:, None]  # per step of each number: comparable columns
        gram = jacobian @ jacobian.swapaxes(1, 2)
        slope = jacobian @ (goal - drawn)[..., None]
        diagonal = np.einsum("npp->np", gram)
        ridge = damping[:, None] * (diagonal + 0.01 * diagonal.mean(axis=1, keepdims=True) + 1e-9)
        step = np.linalg.solve(gram + ridge[..., None] * np.eye(p), slope)[..., 0]
        tried = _bounded(_with_free(u, x + np.clip(step, -4.0, 4.0) * widths))
        redrawn = _draw(f, tried, softness)
        new = np.square(redrawn - goal).mean(axis=1)
        better = new < error
        u = jax.tree.map(functools.partial(_choose, better), tried, u)
        drawn, error = _choose(better, redrawn, drawn), np.where(better, new, error)
        damping *= np.where(better, 0.3, 10.0)
    return u, error


def _choose(better: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Rows of `a` where `better`, else of `b`."""
    return np.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)


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


def _with_marks(f: Factors, u: Nuisance, pictures: Float[np.ndarray, "n 32 32 3"]) -> Nuisance:
    """`u` with the identity mark that explains each picture best, or with none where that does.

    Cells do not overlap, so a marked picture is the one with a black mark plus a sum of white cells
    (`reader.MarkBasis`), and the errors of all codes follow from products.
    """
    n = len(pictures)
    bits = np.concatenate([np.zeros((2, MARK_BITS)), np.eye(MARK_BITS)]).astype(np.float32)
    many = jax.tree.map(lambda a: np.repeat(np.asarray(a), len(bits), axis=0), (f, u))
    on = np.ones(len(bits), np.float32)
    on[0] = 0.0  # the first row of each picture is without a mark
    shown = many[1]._replace(mark=np.tile(bits, (n, 1)), mark_on=np.tile(on, n))
    drawn = _draw(many[0], shown).reshape(n, len(bits), -1)
    goal = pictures.reshape(n, -1)
    cells, rest = drawn[:, 2:] - drawn[:, 1:2], goal - drawn[:, 1]
    gram, slope = cells @ cells.swapaxes(1, 2), (cells @ rest[..., None])[..., 0]
    errors = (
        np.square(rest).sum(axis=1, keepdims=True)
        - 2.0 * slope @ MARK_CODES.T
        + np.einsum("ki,nij,kj->nk", MARK_CODES, gram, MARK_CODES)
    )
    found = errors.min(axis=1) < np.square(goal - drawn[:, 0]).sum(axis=1)
    return u._replace(mark=MARK_CODES[errors.argmin(axis=1)], mark_on=found.astype(np.float32))


def read_free(
    pictures: Float[np.ndarray, "n 32 32 3"],
    proposals: int = 5,
    bank_size: int = 16384,
    marks: bool = False,
) -> list[FreeReading]:
    """Reads pictures, (n, 32, 32, 3) in [0, 1], one by one but computed together.

    Args:
        pictures: what to read.
        proposals: explanations per picture that are tried; the best few are worked out.
        bank_size: known pictures that propose them, drawn once per process.
        marks: whether subjects may carry an identity mark, which is then read with the nuisance.
            In pictures that carry none, a mark could only explain blemishes.
    """
    known = bank(bank_size)
    return [
        reading
        for i in range(0, len(pictures), _TOGETHER)
        for reading in _read_block(pictures[i : i + _TOGETHER], proposals, known, marks)
    ]


def _read_block(
    pictures: np.ndarray, proposals: int, known: Bank, marks: bool
) -> list[FreeReading]:
    flat = np.asarray(pictures, np.float32).reshape(len(pictures), -1)
    rows = np.stack([_propose(p, known, proposals) for p in pictures])
    f, u = jax.tree.map(lambda a: np.asarray(a)[rows.ravel()], (known.factors, known.nuisance))
    for iterations, softness, keep in _ROUNDS:
        each = len(f.cls) // len(flat)
        many = np.repeat(np.asarray(pictures, np.float32), each, axis=0)
        u = _with_marks(f, u, many) if marks else u
        u, errors = _refine(f, u, many, iterations, softness)
        order = errors.reshape(-1, each).argsort(axis=1)[:, :keep]
        best = (order + np.arange(len(flat))[:, None] * each).ravel()
        f, u = jax.tree.map(lambda a, b=best: a[b], (f, u))
    # One more look: every single-factor neighbour of the best, under the same nuisance.
    near, owner = [], []
    for i in range(len(flat)):
        seen = Factors(*(int(a[i]) for a in f))
        options = [seen, *fx.neighbours(seen)]
        near += options
        owner += [i] * len(options)
    own = np.array(owner)
    drawn = _draw(splits.as_arrays(near), jax.tree.map(lambda a: a[own], u))
    errors = np.square(drawn - flat[own]).mean(axis=1)
    readings = []
    for i in range(len(flat)):
        mine = np.flatnonzero(own == i)
        winner = mine[errors[mine].argmin()]
        one = jax.tree.map(lambda a, i=i: jnp.asarray(a[i]), u)
        readings.append(FreeReading(near[winner], one, float(errors[winner])))
    return readings
