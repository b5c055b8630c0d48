"""Scores of outputs of one benchmark item, read by analysis-by-synthesis (evaluation: 4.5-4.6)."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.evaluation.items import Item, kept_factors, nuisance_of
from imagic_jax.evaluation.pixel_scores import PixelScores, pixel_scores
from imagic_jax.flatland import captions, reader
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.reader import MarkBasis, Reading

LEAST_IDENTITY = 5 / 6
_SLACK = 1e-6
#: What a row's scores mean: rows of other meanings are not mixed.
SCORES_ID = (
    "flatland{reader=abs-2px-4blur,zoom=5,gates=rho+q(one-registration),pixels=64,ssim=gauss11}"
)


class Gates(NamedTuple):
    """What a valid output must satisfy (evaluation: 4.5 C); see `gates` for where rho is from."""

    residual: float = 0.01  # rho: explained by the world at all
    undecided: float = 0.2  # q: decided between source and ideal


GATES = Gates()


class FactorScores(NamedTuple):
    """What the factors, the mark and the frame of one output say."""

    seen: dict[str, str]  # the factors that were read
    success: bool  # the text is true of what was read, and the output is valid
    read_success: bool  # the same without the gates
    preservation: float  # share of the factors that the edit leaves alone and that stayed
    leaked: list[str]  # those that did not stay
    identity: float  # share of the mark's bits recovered
    joint: bool  # success, everything preserved, identity >= 5/6: the headline
    joint_factors: bool  # the same without identity
    read_joint: bool  # joint without the gates
    under_edit: bool  # nothing was read to have changed
    over_edit: bool  # success, but not everything preserved
    residual: float  # rho
    undecided: float  # q; NaN where the item asks for no edit
    shift: list[int]  # rows and columns that the picture is off by
    drift: float  # the same as a distance, pixels
    zoom: float  # how much larger than it should be


Score = dict[str, Any]  # the fields of both


def score(item: Item, outputs: Float[np.ndarray, "n 64 64 3"], gates: Gates = GATES) -> list[Score]:
    """Scores outputs, (n, 64, 64, 3) in [0, 1], that were all made from `item`'s source."""
    u = item.nuisance()
    source, ideals = item.pictures()
    looks = _looks(item.source, item.ideals, item.nuisance_seed)
    readings = reader.read(outputs, u, list(looks), np.stack(list(looks.values())))
    undecided = np.full(len(outputs), np.nan)
    if item.split != "null":
        undecided = np.min([reader.decided(outputs, source, x) for x in ideals], axis=0)
    zooms = reader.read_zoom(outputs, readings, looks)
    bases = {
        f: _mark_basis(f, item.nuisance_seed) for f in dict.fromkeys(r.factors for r in readings)
    }
    pixels = pixel_scores(outputs, readings, source, ideals)
    scores = []
    for i, reading in enumerate(readings):
        bits = reader.read_mark(outputs[i], reading, bases[reading.factors])
        identity = float((bits == np.asarray(u.mark)).mean())
        judged = judge(item, reading, identity, float(undecided[i]), gates, zooms[i])
        scores.append({**judged._asdict(), **pixels[i]._asdict()})
    return scores


# Every method is scored on the same items: what does not depend on it is drawn once.
@functools.lru_cache(maxsize=160)
def _looks(
    source: Factors, ideals: tuple[Factors, ...], nuisance_seed: int
) -> dict[Factors, np.ndarray]:
    """What an output may show, as it looks."""
    options = list(dict.fromkeys(h for g in ideals for h in reader.candidates(source, g)))
    drawn = reader.render_list(options, nuisance_of(nuisance_seed))
    return dict(zip(options, drawn, strict=True))


@functools.lru_cache(maxsize=512)
def _mark_basis(seen: Factors, nuisance_seed: int) -> MarkBasis:
    return reader.mark_basis(seen, nuisance_of(nuisance_seed))


def judge(
    item: Item, reading: Reading, identity: float, undecided: float, gates: Gates, zoom: float = 1.0
) -> FactorScores:
    """What a reading says about an edit."""
    seen = reading.factors
    leaked = leaks(item, seen)
    kept = kept_factors(item)
    right = bool(captions.satisfies(seen, captions.parse(item.text)))
    decided = not undecided > gates.undecided  # NaN: no edit was asked for
    valid = reading.residual <= gates.residual and decided
    all_kept = not leaked
    recognised = identity >= LEAST_IDENTITY - _SLACK
    return FactorScores(
        seen=fx.describe(seen),
        success=right and valid,
        read_success=right,
        preservation=1.0 - len(leaked) / len(kept),
        leaked=leaked,
        identity=identity,
        joint=right and valid and all_kept and recognised,
        joint_factors=right and valid and all_kept,
        read_joint=right and all_kept and recognised,
        under_edit=seen == item.source and item.split != "null",
        over_edit=right and valid and not all_kept,
        residual=float(reading.residual),
        undecided=undecided,
        shift=list(reading.shift),
        drift=float(np.hypot(*reading.shift)),
        zoom=zoom,
    )


def leaks(item: Item, seen: Factors) -> list[str]:
    """The factors that the edit should have left alone and that were read to have changed.

    A state that was read on another class than the source's means nothing, so it leaks wherever
    the class should have stayed; the same holds for a hat on what wears none.
    """
    names = []
    for name in kept_factors(item):
        same = int(getattr(seen, name)) == int(getattr(item.source, name))
        if name == "state" and seen.cls != item.source.cls:
            same = False
        if not same:
            names.append(name)
    return names


def faulty(fault: str) -> Score:
    """The scores of an output that cannot be looked at: a failed edit, and nothing else is known.

    Args:
        fault: what is wrong with it, e.g. "not finite".
    """
    nothing = {n: float("nan") for n in (*FactorScores._fields, *PixelScores._fields)}
    failed = dict.fromkeys(
        ("success", "read_success", "joint", "joint_factors", "read_joint", "over_edit"), False
    )
    return {**nothing, **failed, "seen": {}, "leaked": [], "shift": [], "fault": fault}


def fault_of(picture: np.ndarray) -> str:
    """What is wrong with one output, "" if nothing: its size, or values that are no numbers."""
    side = reader.SIZE
    if picture.shape != (side, side, 3):
        got = " x ".join(map(str, picture.shape))
        return f"of another size: {got} where {side} x {side} x 3 was expected"
    if not np.isfinite(picture).all():
        return "not finite: holds NaN or infinity"
    return ""


def score_checked(
    item: Item, outputs: Sequence[np.ndarray | None], gates: Gates = GATES
) -> list[Score]:
    """`score`, with what cannot be looked at counted as failed edits and named.

    Args:
        item: whose outputs.
        outputs: pictures in [0, 1]; None for one that is missing.
        gates: see `Gates`.

    Returns:
        One score per output, with "fault": "" or what was wrong.
    """
    faults = ["missing" if o is None else fault_of(o) for o in outputs]
    good = [
        np.clip(o, 0.0, 1.0)
        for o, f in zip(outputs, faults, strict=True)
        if o is not None and not f
    ]
    found = iter(score(item, np.stack(good).astype(np.float32), gates) if good else ())
    return [faulty(f) if f else {**next(found), "fault": ""} for f in faults]


def to_reading_size(pictures: Float[np.ndarray, "*n h w 3"]) -> Float[np.ndarray, "*n 64 64 3"]:
    """Model outputs in [-1, 1], of any multiple of 64 pixels, as the reader wants them: [0, 1].

    Smaller ones, of 64 divided by a whole number, are repeated.
    """
    *n, height, _, _ = pictures.shape
    side, flat = reader.SIZE, np.asarray(pictures, np.float32)
    if height < side:
        k = side // height
        return flat.repeat(k, axis=-3).repeat(k, axis=-2) / 2.0 + 0.5
    k = height // side
    blocks = flat.reshape(*n, side, k, side, k, 3)
    return blocks.mean(axis=(-4, -2)) / 2.0 + 0.5


def about(item: Item, **where: Any) -> dict[str, Any]:
    """What every line of the JSONL says about its item."""
    return {
        "item": item.name,
        "edit": item.edit,
        "split": item.split,
        "text": item.text,
        "source": fx.describe(item.source),
        "ideals": [fx.describe(g) for g in item.ideals],
        "kept": list(kept_factors(item)),
        "nuisance_seed": item.nuisance_seed,
        **where,
    }
