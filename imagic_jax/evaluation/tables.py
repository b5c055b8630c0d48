"""Tables with intervals from the rows of a Flatland run (evaluation: 5, "Tables/figures").

Rows become arrays (items, seeds, strengths) per method; an interval is that of `statistics`, with
kinds of edits as strata. A score that is not defined (background of an edit that is everywhere) or
not there (a picture that could not be read) is left out of its mean, and how many were is counted.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.errors import UserError
from imagic_jax.evaluation import curves, statistics
from imagic_jax.evaluation.anchors import PREFIX
from imagic_jax.evaluation.scoring import SCORES_ID
from imagic_jax.evaluation.statistics import Comparison, Interval
from imagic_jax.flatland.factors import FACTOR_NAMES

Row = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """All rows of one method as arrays.

    Attributes:
        method: its name.
        items, edits, splits: one per source.
        strengths: ascending; one alone for anchors and methods without a knob.
        rows: object array (items, seeds, strengths) of rows, None where there is none.
    """

    method: str
    items: tuple[str, ...]
    edits: tuple[str, ...]
    splits: tuple[str, ...]
    strengths: tuple[float, ...]
    rows: np.ndarray

    def values(self, key: str) -> Float[np.ndarray, "n k e"]:
        """One score of every row; NaN where it is not defined or the row is not there."""
        return np.vectorize(lambda r: _number(r, key), otypes=[float])(self.rows)

    def only(self, edit: str | None = None, split: str | None = None) -> "Sweep":
        """The same for the items of one kind of edit, or of one split."""
        at = [
            i
            for i in range(len(self.items))
            if edit in (None, self.edits[i]) and split in (None, self.splits[i])
        ]

        def some(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names[i] for i in at)

        return dataclasses.replace(
            self,
            items=some(self.items),
            edits=some(self.edits),
            splits=some(self.splits),
            rows=self.rows[at],
        )


def _number(row: Row | None, key: str) -> float:
    value = None if row is None else row.get(key)
    return float("nan") if value is None else float(value)


def sweeps(rows: Sequence[Row], part: str) -> dict[str, Sweep]:
    """The sweeps of all methods on one part, in the order of the rows.

    Raises:
        UserError: the rows were scored in different ways.
    """
    ids = sorted({str(r.get("scores")) for r in rows})
    if ids not in ([], [SCORES_ID]):
        raise UserError(
            f"the rows were scored in another way ({', '.join(ids)}) than this version does"
            f" ({SCORES_ID}); score the pictures again with --score_only"
        )
    by_method: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row["part"] == part:
            by_method[row["method"]].append(row)
    return {method: _sweep(method, own) for method, own in by_method.items()}


def _sweep(method: str, rows: Sequence[Row]) -> Sweep:
    about = {r["item"]: r for r in rows}
    grid = sorted({_strength(r) for r in rows})
    places = {name: i for i, name in enumerate(about)}
    table = np.full((len(about), 1 + max(r["seed"] for r in rows), len(grid)), None, object)
    for r in rows:
        table[places[r["item"]], r["seed"], grid.index(_strength(r))] = r
    firsts = about.values()
    return Sweep(
        method,
        tuple(about),
        tuple(r["edit"] for r in firsts),
        tuple(r["split"] for r in firsts),
        tuple(grid),
        table,
    )


def _strength(row: Row) -> float:
    return 0.0 if row["strength"] is None else float(row["strength"])


AUTO = "imagic_auto"  # Imagic with the eta that `--eta=auto` takes
BEST = "imagic_best"  # Imagic, of all etas and seeds the picture that the scores like best
#: The same pictures chosen in other ways: no methods of their own.
CHOSEN = (AUTO, BEST)


class Column(NamedTuple):
    """One column of the tables."""

    title: str
    key: str
    kind: str  # "rate" (0 or 1), "mean" or "median"
    digits: int


#: What the reader says; JOINT is the headline.
FACTOR_COLUMNS = (
    Column("JOINT", "joint", "rate", 3),
    Column("edit success", "success", "rate", 3),
    Column("preservation", "preservation", "mean", 3),
    Column("identity", "identity", "mean", 3),
    Column("JOINT without identity", "joint_factors", "rate", 3),
    Column("success, ungated", "read_success", "rate", 3),
    Column("JOINT, ungated", "read_joint", "rate", 3),
    Column("under-edit", "under_edit", "rate", 3),
    Column("over-edit", "over_edit", "rate", 3),
    Column("drift (px)", "drift", "mean", 2),
)
#: What the pixels say; medians where a score has no lower bound.
PIXEL_COLUMNS = (
    Column("CF-PSNR", "cf_psnr", "mean", 1),
    Column("CF-PSNR, registered", "cf_psnr_registered", "mean", 1),
    Column("CF-SSIM", "cf_ssim", "mean", 3),
    Column("CF-SSIM, registered", "cf_ssim_registered", "mean", 3),
    Column("skill S", "skill", "median", 2),
    Column("S_b", "skill_bounded", "mean", 2),
    Column("dose", "dose", "median", 2),
    Column("collateral", "collateral", "median", 2),
    Column("cosine", "cosine", "mean", 2),
    Column("background PSNR", "background_psnr", "mean", 1),
    Column("PSNR to source", "source_psnr", "mean", 1),
)
COST_COLUMNS = (
    Column("fit (s)", "fit_s", "mean", 1),
    Column("drawing (s per picture of the sweep)", "render_s", "mean", 2),
    Column("gradient steps", "gradient_steps", "mean", 0),
    Column("evaluations, fit", "fit_evaluations", "mean", 0),
    Column("evaluations per picture of the sweep", "render_evaluations", "mean", 0),
    Column("memory (MiB)", "memory_mib", "mean", 0),
)
#: Of what was edited back: everything is judged against the source.
BACK_COLUMNS = (
    Column("all back", "joint", "rate", 3),
    Column("factors back", "preservation", "mean", 3),
    Column("identity", "identity", "mean", 3),
    Column("PSNR to source", "source_psnr", "mean", 1),
)
LEARNED_COLUMNS = (
    Column("wclip", "wclip", "mean", 3),
    Column("1 - wlpips", "wlpips_kept", "mean", 3),
)


def cell(sweep: Sweep, column: Column, at: int, **options: Any) -> tuple[Interval, int]:
    """One score of one method at one strength: (its interval, items left out as not defined)."""
    values, strata, lost = statistics.with_sources(sweep.values(column.key)[..., at], sweep.edits)
    if not len(values):
        return statistics.NOTHING, lost
    if column.kind == "rate":
        return statistics.rate(values, strata, **options), lost
    statistic = (
        statistics.median_of_sources if column.kind == "median" else statistics.mean_of_sources
    )
    return statistics.bootstrap(values, statistic, strata, **options), lost


def chosen_strengths(found: dict[str, Sweep], validation: dict[str, Sweep]) -> dict[str, float]:
    """The strength of every method: the best on validation by joint success, ties by what is read
    without the gates, then the weaker."""
    chosen = {}
    for method, sweep in found.items():
        grid = validation.get(method)
        if grid is None:
            chosen[method] = sweep.strengths[0]
            continue
        best = grid.strengths[best_strength(grid)]
        chosen[method] = min(sweep.strengths, key=lambda s: abs(s - best))
    return chosen


def best_strength(sweep: Sweep, without: int | None = None) -> int:
    """The position of the best strength by joint success, see `chosen_strengths`; `without` leaves
    one item out."""
    joint, read = sweep.values("joint"), sweep.values("read_joint")
    ties = read + 0.5 * sweep.values("read_success")
    if without is not None:
        joint, ties = (np.delete(v, without, axis=0) for v in (joint, ties))
    return curves.best(joint, ties)


class Line(NamedTuple):
    """One row of a table."""

    method: str
    strength: float | None
    sources: int
    faults: int  # pictures that could not be looked at: failed edits in every rate
    missing: int  # pictures that are not there at all: left out, and named
    cells: dict[str, Interval]  # by column key
    left_out: dict[str, int]  # items whose score is not defined, by column key


def line(
    sweep: Sweep, strength: float, columns: Sequence[Column], knob: bool = False, **options: Any
) -> Line:
    """One method at one strength; `knob` says that there were others, elsewhere."""
    at = sweep.strengths.index(strength)
    rows = sweep.rows[..., at]
    found = {c.key: cell(sweep, c, at, **options) for c in columns}
    return Line(
        sweep.method,
        strength if knob or len(sweep.strengths) > 1 else None,
        len(sweep.items),
        sum(1 for r in rows.flat if r is not None and r["fault"]),
        sum(1 for r in rows.flat if r is None),
        {key: interval for key, (interval, _) in found.items()},
        {key: lost for key, (_, lost) in found.items() if lost},
    )


def table(
    found: dict[str, Sweep],
    chosen: dict[str, float],
    columns: Sequence[Column],
    knobs: Collection[str] = (),
    **options: Any,
) -> list[Line]:
    """Anchors on top, then every method at its chosen strength; `knobs` are those that had a choice
    on other items."""
    order = sorted(found, key=lambda m: not m.startswith(PREFIX))
    return [line(found[m], chosen[m], columns, m in knobs, **options) for m in order]


def by_kind(
    found: dict[str, Sweep], chosen: dict[str, float], **options: Any
) -> dict[str, dict[str, Interval]]:
    """Joint success of every method (no anchors) by kind of edit, and by split where there are
    several: {"pose edits": {method: interval}, ...}."""
    tables: dict[str, dict[str, Interval]] = {}
    for method, sweep in found.items():
        if method.startswith(PREFIX):
            continue
        splits = _unique(sweep.splits)
        first = main_split(sweep)
        kinds = {f"{e} edits": first.only(edit=e) for e in _unique(first.edits)}
        if len(splits) > 1:
            kinds |= {f"split {s}": sweep.only(split=s) for s in splits}
        for kind, some in kinds.items():
            at = sweep.strengths.index(chosen[method])
            tables.setdefault(kind, {})[method] = cell(some, FACTOR_COLUMNS[0], at, **options)[0]
    return tables


def main_split(sweep: Sweep) -> Sweep:
    """The items that the main tables are about: those of `iid`, if there are any."""
    return sweep.only(split="iid") if "iid" in sweep.splits else sweep


def _unique(names: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(names))


def comparisons(
    found: dict[str, Sweep], chosen: dict[str, float], first: str = "imagic", **options: Any
) -> dict[str, tuple[Comparison, float]]:
    """`first` against every other method on joint success: comparison and Holm's p by method.

    Sources that both have are compared; the family is what the run was asked for.
    """
    if first not in found:
        return {}
    results = {}
    for other, sweep in found.items():
        if other in (first, *CHOSEN) or other.startswith(PREFIX):
            continue
        a, b, edits = paired(found[first], sweep, chosen, "joint")
        if len(a):
            results[other] = statistics.compare(a, b, edits, **options)
    adjusted = statistics.holm({m: c.p for m, c in results.items()})
    return {m: (c, adjusted[m]) for m, c in results.items()}


def paired(
    a: Sweep, b: Sweep, chosen: dict[str, float], key: str
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n k"], list[str]]:
    """One score of two methods at their strengths on the items and seeds that both have."""
    common = [i for i in a.items if i in b.items]
    seeds = min(a.rows.shape[1], b.rows.shape[1])

    def of(sweep: Sweep) -> np.ndarray:
        at = sweep.strengths.index(chosen[sweep.method])
        rows = [sweep.items.index(i) for i in common]
        return sweep.values(key)[rows][:, :seeds, at]

    first, second = of(a), of(b)
    there = np.asarray(np.isfinite(first - second).any(axis=1))
    edits = [a.edits[a.items.index(i)] for i, t in zip(common, there, strict=True) if t]
    return first[there], second[there], edits


def leakage(sweep: Sweep, strength: float) -> tuple[list[str], list[str], np.ndarray]:
    """L[k, j] = P(factor j changed | edit of kind k): (kinds, factors, matrix; NaN where factor j
    is what such an edit changes)."""
    at, kinds = sweep.strengths.index(strength), _unique(sweep.edits)
    matrix = np.full((len(kinds), len(FACTOR_NAMES)), np.nan)
    for k, kind in enumerate(kinds):
        every = sweep.only(edit=kind).rows[..., at].flat
        rows = [r for r in every if r is not None and not r["fault"]]
        for j, factor in enumerate(FACTOR_NAMES):
            told = [factor in r["leaked"] for r in rows if factor in r["kept"]]
            if told:
                matrix[k, j] = np.mean(told)
    return kinds, list(FACTOR_NAMES), matrix
