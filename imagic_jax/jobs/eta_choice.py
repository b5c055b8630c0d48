"""Choosing eta: the largest that keeps the picture (`--eta=auto`), and the best of all pictures.

Nothing here knows what was edited how: a scorer says for every picture of a sweep how well it fits
the text (alignment) and how much of the input it keeps (fidelity), larger being better.

Imagic's authors draw eight seeds over a range of eta and show what looks best (4.1 of the paper);
`choose_best` is that choice made by rule.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

#: The strengths that are drawn to choose from: this many from 0 to the preset's largest eta.
SWEEP = 11
_SHOWS = 0.05  # of the alignment's range over a sweep: less than this gained is no edit
#: Of the alignment's rise over a sweep, what the best picture must have. Pictures differ in the eta
#: at which the edit comes and in how far alignment rises, so that a share is asked, not a value.
MOST = 0.7


class Choice(NamedTuple):
    """Which picture of a sweep, and why."""

    at: int  # its position
    bound: float  # what its fidelity, or the best picture's alignment, had to be at least
    reason: str


def choose(
    etas: Float[np.ndarray, " e"],
    alignment: Float[np.ndarray, " e"],
    fidelity: Float[np.ndarray, " e"],
    tolerance: float,
) -> Choice:
    """The largest eta whose fidelity is within `tolerance` of that at the eta nearest to 0.

    Args:
        etas: amounts of the edit, in any order.
        alignment, fidelity: scores of the pictures, larger is better; NaN where a picture cannot be
            scored.
        tolerance: how far fidelity may fall.

    Raises:
        ValueError: nothing can be scored at the eta nearest to 0.
    """
    start = int(np.argmin(np.abs(etas)))
    if not np.isfinite(fidelity[start]):
        raise ValueError(f"the picture at eta = {etas[start]:g} cannot be scored")
    bound = float(fidelity[start] - tolerance)
    within = np.isfinite(fidelity) & (fidelity >= bound)
    index = int(np.flatnonzero(within)[np.argmax(etas[within])])
    said = (
        f"eta = {etas[index]:g} is the largest of the sweep whose fidelity"
        f" ({fidelity[index]:.3g}) is within {tolerance:g} of that at eta = {etas[start]:g}"
        f" ({fidelity[start]:.3g})"
    )
    if index == int(np.argmax(etas)):
        said += "; no larger one was drawn"
    return Choice(index, bound, said + _whether_it_shows(alignment, index, start))


def choose_best(
    etas: Float[np.ndarray, " n"],
    alignment: Float[np.ndarray, " n"],
    fidelity: Float[np.ndarray, " n"],
) -> Choice:
    """Of all pictures that show the edit the one that keeps most of the input.

    A picture shows it where its alignment has at least the share `MOST` of the rise from the
    pictures at the eta nearest to 0 (their mean) to the best.

    Args:
        etas: of each picture; several seeds may share one.
        alignment, fidelity: scores of the pictures, larger is better; NaN where a picture cannot be
            scored, which is never chosen.

    Returns:
        The picture's position; `bound` is the alignment that was asked.

    Raises:
        ValueError: nothing can be scored, or nothing at the eta nearest to 0.
    """
    scored = np.isfinite(alignment) & np.isfinite(fidelity)
    start = np.abs(etas) == np.abs(etas).min()
    if not (scored & start).any():
        raise ValueError(f"no picture at eta = {etas[start][0]:g} can be scored")
    first, most = float(alignment[scored & start].mean()), float(alignment[scored].max())
    bound = first + MOST * (most - first)
    shows = np.flatnonzero(scored & (alignment >= bound))
    index = int(shows[np.argmax(fidelity[shows])])
    reason = (
        f"of {len(etas)} pictures {len(shows)} show the edit (alignment at least {bound:.3g};"
        f" {first:.3g} at eta = {etas[start][0]:g}, at best {most:.3g}), and of these this one"
        f" keeps most (fidelity {fidelity[index]:.3g})"
    )
    return Choice(index, bound, reason)


def _whether_it_shows(alignment: np.ndarray, index: int, start: int) -> str:
    """A warning where the alignment at the chosen eta is hardly above that of the picture."""
    finite = alignment[np.isfinite(alignment)]
    if not len(finite):
        return ""
    gained = alignment[index] - alignment[start]
    best = float(finite.max())
    if gained > _SHOWS * max(best - alignment[start], 0.0) and gained > 0:
        return f"; alignment rises from {alignment[start]:.3g} to {alignment[index]:.3g}"
    return (
        f"; the edit hardly shows there (alignment {alignment[index]:.3g}, at best {best:.3g}):"
        " another --seeds, a larger --guidance or less fine-tuning may help"
    )


def sweep_to(most: float) -> tuple[float, ...]:
    """The strengths that are drawn to choose from: evenly from 0 to `most`."""
    return tuple(round(most * i / (SWEEP - 1), 4) for i in range(SWEEP))


@runtime_checkable
class Scorer(Protocol):
    """Scores the pictures of one edit.

    Attributes:
        alignment, fidelity: what the two numbers are, for people.
        tolerance: how far fidelity may fall below that of the picture at eta = 0.
    """

    alignment: str
    fidelity: str
    tolerance: float

    def __call__(
        self, pictures: Float[np.ndarray, "n h w 3"]
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """(alignment, fidelity) of pictures in [-1, 1]."""
        ...


def choose_per_seed(
    scorer: Scorer,
    pictures: Float[np.ndarray, "e s h w 3"],
    etas: Sequence[float],
    seeds: Sequence[int],
) -> dict[str, object]:
    """The choice for every seed with its curve, and the best of all, as result.json tells it.

    Pictures with values that are no numbers are never chosen.
    """
    strengths, count = pictures.shape[:2]
    flat = pictures.reshape(strengths * count, *pictures.shape[2:])
    finite = np.isfinite(flat).all(axis=(1, 2, 3))
    scores = np.full((2, len(flat)), np.nan)
    if finite.any():
        scores[:, finite] = scorer(flat[finite])
    alignment, fidelity = scores.reshape(2, strengths, count)
    rows = []
    for s, seed in enumerate(seeds):
        row: dict[str, object] = {
            "seed": seed,
            "alignment": _numbers(alignment[:, s]),
            "fidelity": _numbers(fidelity[:, s]),
        }
        try:
            found = choose(
                np.asarray(etas, float), alignment[:, s], fidelity[:, s], scorer.tolerance
            )
        except ValueError as error:
            row |= {"eta": None, "reason": str(error)}
        else:
            row |= {"eta": etas[found.at], "bound": found.bound, "reason": found.reason}
        rows.append(row)
    each = np.repeat(np.asarray(etas, float), count)
    best: dict[str, object] | None = None
    try:
        found = choose_best(each, alignment.ravel(), fidelity.ravel())
    except ValueError:
        pass  # the seeds' rows say why
    else:
        e, s = divmod(found.at, count)
        best = {"eta": etas[e], "seed": seeds[s], "reason": found.reason}
    return {
        "best": best,
        "alignment": scorer.alignment,
        "fidelity": scorer.fidelity,
        "tolerance": scorer.tolerance,
        "etas": list(etas),
        "seeds": rows,
    }


def _numbers(values: np.ndarray) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in values]
