"""Reading factors off a picture by analysis-by-synthesis, when its nuisance is known.

An edited Flatland picture should be R(g, u) with the source's own nuisance u. The reader renders
every candidate g with that u and takes the one that explains the output best, over small shifts,
blurs and a brightness offset: registration is what makes a perfect edit one pixel to the left
count as perfect. Nothing is trained, so nothing can be fooled that a person could not check.
"""

import functools
from collections.abc import Mapping, Sequence
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
ZOOMS = (0.9, 0.95, 1.05, 1.1)
_CROP = slice(MAX_SHIFT, SIZE - MAX_SHIFT)
_TOGETHER = 32  # pictures of one program
#: Every mark there can be.
MARK_CODES = ((np.arange(2**MARK_BITS)[:, None] >> np.arange(MARK_BITS)) & 1).astype(np.float32)
_CLEARLY = 0.8  # a zoom must leave at most this share of the residual

Pictures = Float[np.ndarray, "n 64 64 3"]


class Reading(NamedTuple):
    """What the reader sees in one picture."""

    factors: Factors
    shift: tuple[int, int]  # (rows, columns) that the picture is off by
    blur: float
    residual: float  # mean squared error per value of the best explanation, [0, 1] units


def render_list(assignments: Sequence[Factors], u: Nuisance, size: int = SIZE) -> np.ndarray:
    """Renders many factor assignments under one nuisance: (n, size, size, 3) in [0, 1].

    The number is padded to 8 or a multiple of 32, so that few programs are compiled.
    """
    count = len(assignments)
    padded = list(assignments) + [assignments[-1]] * (
        8 - count if count <= 8 else -count % _TOGETHER
    )
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


class _Centred(NamedTuple):
    """Flattened pictures without their means, and the sums of their squares."""

    values: Float[np.ndarray, "m v"]
    squares: Float[np.ndarray, " m"]


def _centred(h: Float[np.ndarray, "*b v"]) -> _Centred:
    h = h.reshape(-1, h.shape[-1])
    values = h - h.mean(axis=-1, keepdims=True)
    return _Centred(values, np.einsum("mv,mv->m", values, values))


def _mismatch(y: _Centred, h: _Centred) -> Float[np.ndarray, "k m"]:
    """Mean squared error of every y against every h, after the best brightness offset.

    The offset removes the mean of the difference, so both are centred and the squares expand into
    one matrix product.
    """
    square = y.squares[:, None] + h.squares - 2.0 * (y.values @ h.values.T)
    return np.maximum(square, 0.0) / y.values.shape[-1]


def candidates(f: Factors, g: Factors, pairs: bool = False) -> list[Factors]:
    """What an output may show: source, target, and everything one factor away from either.

    With `pairs`, also what is two factors away (a robustness check).
    """
    near = [f, g, *fx.neighbours(f), *fx.neighbours(g)]
    if pairs:
        near += [h for n in list(near) for h in fx.neighbours(n)]
    return list(dict.fromkeys(Factors(*map(int, h)) for h in near))


def read(
    outputs: Pictures,
    u: Nuisance,
    options: Sequence[Factors],
    drawn: Float[np.ndarray, "m 64 64 3"] | None = None,
) -> list[Reading]:
    """Reads the factors of pictures that were all made from one source.

    Args:
        outputs: (n, 64, 64, 3) in [0, 1].
        u: the source's nuisance (its mark included).
        options: candidate assignments, see `candidates`.
        drawn: what they look like, where that is known.
    """
    references = _centred(_references(render_list(options, u) if drawn is None else drawn))
    readings = []
    for shifted in _shifted(np.asarray(outputs, np.float32)):
        error = _mismatch(_centred(shifted), references)
        at, which = divmod(int(np.argmin(error)), error.shape[1])
        option, level = divmod(which, len(BLURS))
        readings.append(Reading(options[option], SHIFTS[at], BLURS[level], float(error.min())))
    return readings


class MarkBasis(NamedTuple):
    """A picture with a blank mark, and what each white cell adds to it.

    The cells do not overlap, so a marked picture is the blank one plus a sum of cell pictures.
    """

    blank: Float[np.ndarray, "64 64 3"]
    cells: Float[np.ndarray, "6 64 64 3"]


def mark_basis(f: Factors, u: Nuisance) -> MarkBasis:
    """The basis of the marks that a picture of `f` under `u` may carry."""
    bits = np.concatenate([np.zeros((1, MARK_BITS), np.float32), np.eye(MARK_BITS)])
    marked = u._replace(mark_on=jnp.float32(1.0))
    bits = np.pad(bits, ((0, 8 - len(bits)), (0, 0))).astype(np.float32)  # as `render_list` pads
    many = jax.tree.map(lambda a: jnp.broadcast_to(a, (len(bits), *jnp.shape(a))), marked)
    many = many._replace(mark=jnp.asarray(bits))
    pictures = np.asarray(render_many(splits.as_arrays([f] * len(bits)), many, SIZE))
    return MarkBasis(pictures[0], pictures[1 : MARK_BITS + 1] - pictures[0])


def read_mark(
    output: Float[np.ndarray, "64 64 3"], reading: Reading, basis: MarkBasis
) -> Float[np.ndarray, "6"]:
    """The six bits of the identity mark, read where `reading` says the subject is.

    All 64 codes are compared exactly; `basis` is that of `reading.factors`.
    """
    soft = blur(np.concatenate([basis.blank[None], basis.cells]), reading.blur)[:, _CROP, _CROP]
    dy, dx = reading.shift
    rows = slice(MAX_SHIFT + dy, SIZE - MAX_SHIFT + dy)
    columns = slice(MAX_SHIFT + dx, SIZE - MAX_SHIFT + dx)
    rest = (np.asarray(output)[rows, columns] - soft[0]).ravel()
    where = np.abs(soft[1:]).sum(axis=(0, 3)).ravel().repeat(3) > 0.02  # the mark's own pixels
    error = rest[where] - MARK_CODES @ soft[1:].reshape(MARK_BITS, -1)[:, where]
    error -= error.mean(axis=1, keepdims=True)
    return MARK_CODES[int(np.argmin(np.square(error).sum(axis=1)))]


def registered(outputs: Pictures, readings: Sequence[Reading]) -> Float[np.ndarray, "n h w 3"]:
    """Outputs moved back by what they were read to be off by, without the rim that this costs."""
    return np.stack(
        [
            y[
                MAX_SHIFT + r.shift[0] : SIZE - MAX_SHIFT + r.shift[0],
                MAX_SHIFT + r.shift[1] : SIZE - MAX_SHIFT + r.shift[1],
            ]
            for y, r in zip(outputs, readings, strict=True)
        ]
    )


def without_rim(pictures: Float[np.ndarray, "*b 64 64 3"]) -> Float[np.ndarray, "*b h w 3"]:
    """Pictures without the rim that `registered` cuts off."""
    return pictures[..., _CROP, _CROP, :]


@functools.cache
def _zoom_matrix(zoom: float) -> Float[np.ndarray, "64 64"]:
    """Rows of a linear resampling about the middle, edges replicated."""
    middle = (SIZE - 1) / 2
    at = np.clip((np.arange(SIZE) - middle) * zoom + middle, 0, SIZE - 1)
    low = np.minimum(at.astype(int), SIZE - 2)
    matrix = np.zeros((SIZE, SIZE), np.float32)
    matrix[np.arange(SIZE), low] = 1 - (at - low)
    matrix[np.arange(SIZE), low + 1] = at - low
    return matrix


def read_zoom(
    outputs: Pictures, readings: Sequence[Reading], looks: Mapping[Factors, np.ndarray]
) -> list[float]:
    """How much larger than it should be each picture is drawn: one of `ZOOMS`.

    The factors are those that were read, and `looks` says what they look like under the source's
    nuisance; a zoom counts where it leaves clearly less unexplained.
    """
    kinds = list(dict.fromkeys(r.factors for r in readings))
    references = [_centred(r) for r in _references(np.stack([looks[f] for f in kinds]))]
    found = [(r.residual * _CLEARLY, 1.0) for r in readings]
    for zoom in ZOOMS:
        m = _zoom_matrix(zoom)
        moved = np.einsum("ai,nijc,bj->nabc", m, np.asarray(outputs, np.float32), m, optimize=True)
        shifted = _shifted(moved)
        for i, r in enumerate(readings):
            sharp = references[kinds.index(r.factors)]
            error = float(_mismatch(_centred(shifted[i]), sharp).min())
            found[i] = min(found[i], (error, zoom))
    return [zoom for _, zoom in found]


def decided(outputs: Pictures, source: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """q per output: 0 is the ideal edit, 1 is undecided between source and ideal, above is copy.

    q = min over shifts d and blurs s of |T_d y - G_s x*|^2 / |T_d y - G_s x|^2 over the pixels that
    the edit should change (evaluation: 4.5 C ii): both errors under one registration. Minimised
    apart, a blurred source would always stand ready to explain an edit that is not blurred, and
    three quarters of an edit would not do. A cross-fade of both passes a plain residual test, but
    not q <= 0.2.

    Args:
        outputs: (n, 64, 64, 3) in [0, 1].
        source, ideal: (64, 64, 3) in [0, 1].
    """
    from_source, from_ideal = _errors_of_change(outputs, source, ideal)
    return (from_ideal / np.maximum(from_source, 1e-9)).min(axis=(1, 2))


def nearness(outputs: Pictures, source: np.ndarray, ideal: np.ndarray) -> np.ndarray:
    """How much nearer every output is to the ideal edit than to the source, each registered.

    e_source / (e_source + e_ideal) over the pixels that the edit should change: 0 the source, 1 the
    ideal edit. Arguments as in `decided`, which is a verdict; this is an order.
    """
    from_source, from_ideal = (
        e.min(axis=(1, 2)) for e in _errors_of_change(outputs, source, ideal)
    )
    return from_source / np.maximum(from_source + from_ideal, 1e-9)


def _errors_of_change(
    outputs: Pictures, source: np.ndarray, ideal: np.ndarray, threshold: float = 4 / 255
) -> tuple[Float[np.ndarray, "n shifts blurs"], Float[np.ndarray, "n shifts blurs"]]:
    """Squared errors against source and ideal, over the pixels where these differ by more than
    `threshold` in any channel; ones where they differ nowhere."""
    mask = (np.abs(source - ideal).max(-1) > threshold)[_CROP, _CROP].ravel().repeat(3)
    if not mask.any():
        same = np.ones((len(outputs), len(SHIFTS), len(BLURS)))
        return same, same
    y = _shifted(np.asarray(outputs, np.float32))[..., mask]

    def errors(h: np.ndarray) -> np.ndarray:
        square = np.square(y).sum(-1)[..., None] + np.square(h).sum(-1) - 2.0 * (y @ h.T)
        return np.maximum(square, 0.0)

    references = _references(np.stack([source, ideal]))[..., mask]
    return errors(references[0]), errors(references[1])
