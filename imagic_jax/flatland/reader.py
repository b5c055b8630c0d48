"""Reading factors off a picture by analysis-by-synthesis, when its nuisance is known.

An edited Flatland picture should be R(g, u) with the source's own nuisance u. The reader renders
every candidate g with that u and takes the one that explains the output best, over small shifts,
blurs and a brightness offset: registration is what makes a perfect edit one pixel to the left
count as perfect. Nothing is trained, so nothing can be fooled that a person could not check.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import splits
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import MARK_BITS, Nuisance
from imagic_jax.flatland.render import render_many

SIZE = 64  # pictures are read at this size, whatever they were made at
MAX_SHIFT = 2
BLURS = (0.0, 0.7, 1.4, 2.2)  # standard deviations, pixels
SHIFTS = tuple(
    (dy, dx) for dy in range(-MAX_SHIFT, MAX_SHIFT + 1) for dx in range(-MAX_SHIFT, MAX_SHIFT + 1)
)
_CROP = slice(MAX_SHIFT, SIZE - MAX_SHIFT)

Pictures = Float[np.ndarray, "n 64 64 3"]


class Reading(NamedTuple):
    """What the reader sees in one picture."""

    factors: Factors
    shift: tuple[int, int]  # (rows, columns) that the picture is off by
    blur: float
    residual: float  # mean squared error per value of the best explanation, [0, 1] units


def render_list(assignments: Sequence[Factors], u: Nuisance, size: int = SIZE) -> np.ndarray:
    """Renders many factor assignments under one nuisance: (n, size, size, 3) in [0, 1].

    The number is padded to a multiple of 32, so that few programs are compiled.
    """
    count = len(assignments)
    padded = list(assignments) + [assignments[-1]] * (-count % 32)
    many = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(padded), *jnp.shape(a))), u)
    pictures = render_many(splits.as_arrays(padded), many, size)
    return np.asarray(pictures)[:count]


@functools.cache
def _blur_matrix(size: int, sigma: float) -> np.ndarray:
    """Rows of a Gaussian blur along one axis, edges replicated."""
    if sigma == 0.0:
        return np.eye(size, dtype=np.float32)
    reach = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    taps /= taps.sum()
    matrix = np.zeros((size, size))
    for row in range(size):
        for k, tap in zip(range(-reach, reach + 1), taps, strict=True):
            matrix[row, min(max(row + k, 0), size - 1)] += tap
    return matrix.astype(np.float32)


def blur(pictures: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of (n, h, w, c) pictures, edges replicated."""
    if sigma == 0.0:
        return pictures
    rows = _blur_matrix(pictures.shape[1], sigma)
    columns = _blur_matrix(pictures.shape[2], sigma)
    return np.einsum("ai,nijc,bj->nabc", rows, pictures, columns, optimize=True)


def _shifted(pictures: np.ndarray) -> np.ndarray:
    """Every picture under every shift, cropped and flattened: (n, shifts, values)."""
    views = [
        pictures[:, MAX_SHIFT + dy : SIZE - MAX_SHIFT + dy, MAX_SHIFT + dx : SIZE - MAX_SHIFT + dx]
        for dy, dx in SHIFTS
    ]
    return np.stack([v.reshape(len(pictures), -1) for v in views], axis=1)


def _references(pictures: np.ndarray) -> np.ndarray:
    """Every picture under every blur, cropped and flattened: (n, blurs, values)."""
    blurred = [blur(pictures, s)[:, _CROP, _CROP] for s in BLURS]
    return np.stack([b.reshape(len(pictures), -1) for b in blurred], axis=1)


def _mismatch(y: np.ndarray, h: np.ndarray) -> np.ndarray:
    """Mean squared error of every y against every h, after the best brightness offset.

    (..., values) against (m, values): the offset removes the mean of the difference, so both are
    centred and the squares expand into one matrix product.
    """
    y = y - y.mean(axis=-1, keepdims=True)
    h = h - h.mean(axis=-1, keepdims=True)
    cross = y @ h.T
    square = np.square(y).sum(-1)[..., None] + np.square(h).sum(-1) - 2.0 * cross
    return np.maximum(square, 0.0) / y.shape[-1]


def candidates(f: Factors, g: Factors, pairs: bool = False) -> list[Factors]:
    """What an output may show: source, target, and everything one factor away from either.

    With `pairs`, also what is two factors away (a robustness check).
    """
    near = [f, g, *fx.neighbours(f), *fx.neighbours(g)]
    if pairs:
        near += [h for n in list(near) for h in fx.neighbours(n)]
    return list(dict.fromkeys(Factors(*map(int, h)) for h in near))


def read(outputs: Pictures, u: Nuisance, options: Sequence[Factors]) -> list[Reading]:
    """Reads the factors of pictures that were all made from one source.

    Args:
        outputs: (n, 64, 64, 3) in [0, 1].
        u: the source's nuisance (its mark included).
        options: candidate assignments, see `candidates`.
    """
    references = _references(render_list(options, u))
    flat = references.reshape(-1, references.shape[-1])
    readings = []
    for error in _mismatch(_shifted(np.asarray(outputs, np.float32)), flat):
        best = int(np.argmin(error))
        at, which = divmod(best, flat.shape[0])
        option, level = divmod(which, len(BLURS))
        readings.append(Reading(options[option], SHIFTS[at], BLURS[level], float(error.min())))
    return readings


def read_mark(output: Float[np.ndarray, "64 64 3"], reading: Reading, u: Nuisance) -> np.ndarray:
    """The six bits of the identity mark, read where `reading` says the subject is.

    The cells do not overlap, so a marked picture is the blank one plus a sum of cell pictures:
    all 64 codes are compared exactly.
    """
    codes = ((np.arange(2**MARK_BITS)[:, None] >> np.arange(MARK_BITS)) & 1).astype(np.float32)
    basis = np.concatenate(
        [np.zeros((1, MARK_BITS), np.float32), np.eye(MARK_BITS, dtype=np.float32)]
    )
    marked = u._replace(mark_on=jnp.float32(1.0))
    many = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(basis), *jnp.shape(a))), marked)
    many = many._replace(mark=jnp.asarray(basis))
    same = jax.tree.map(lambda v: jnp.full((len(basis),), v), reading.factors)
    pictures = blur(np.asarray(render_many(same, many, SIZE)), reading.blur)[:, _CROP, _CROP]
    blank, cells = pictures[0], pictures[1:] - pictures[0]
    dy, dx = reading.shift
    rows = slice(MAX_SHIFT + dy, SIZE - MAX_SHIFT + dy)
    columns = slice(MAX_SHIFT + dx, SIZE - MAX_SHIFT + dx)
    rest = (np.asarray(output)[rows, columns] - blank).ravel()
    where = np.abs(cells).sum(axis=(0, 3)).ravel().repeat(3) > 0.02  # the mark's own pixels
    basis_flat = cells.reshape(MARK_BITS, -1)[:, where]
    error = rest[where] - codes @ basis_flat
    error -= error.mean(axis=1, keepdims=True)
    return codes[int(np.argmin(np.square(error).sum(axis=1)))]


def decided(
    outputs: Pictures, source: np.ndarray, ideal: np.ndarray, threshold: float = 4 / 255
) -> np.ndarray:
    """q per output: 0 is the ideal edit, 1 is undecided between source and ideal, above is copy.

    The ratio of registered errors against ideal and source over the pixels that the edit should
    change; a cross-fade of both passes a plain residual test, but not q <= 0.2.

    Args:
        outputs: (n, 64, 64, 3) in [0, 1].
        source, ideal: (64, 64, 3) in [0, 1].
        threshold: a pixel counts as changed where any channel differs by more.
    """
    mask = (np.abs(source - ideal).max(-1) > threshold)[_CROP, _CROP].ravel().repeat(3)
    if not mask.any():
        return np.ones(len(outputs))
    references = _references(np.stack([source, ideal]))[..., mask]
    y = _shifted(np.asarray(outputs, np.float32))[..., mask]

    def nearest(h: np.ndarray) -> np.ndarray:
        cross = y @ h.T
        error = np.square(y).sum(-1)[..., None] + np.square(h).sum(-1) - 2.0 * cross
        return np.maximum(error, 0.0).min(axis=(1, 2))

    return nearest(references[1]) / np.maximum(nearest(references[0]), 1e-9)
