"""The table of a public benchmark: means with intervals, and all that is missing by name.

Values are averaged over an item's seeds first, then over items. Items of one picture are no
independent samples, so intervals resample pictures (evaluation: 5). What each row shows was fixed
before any result was seen; what an automatic score picks among several results stands in columns of
its own, "best of N".
"""

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.evaluation.edit_items import Benchmark, Problem
from imagic_jax.metrics.metric import Metric

Row = dict[str, Any]
DRAWS = 10_000
_MOST_NAMES = 5  # named on a line of Markdown; table.json names all


class Interval(NamedTuple):
    """A mean over items, its 95 % interval, and how many items it is over."""

    mean: float
    low: float
    high: float
    items: int


class Line(NamedTuple):
    """A line of the table, by identities: as fixed before, and as picked among `best_of`."""

    name: str
    items: int
    fixed: dict[str, Interval]
    best: dict[str, Interval]
    best_of: int


def cluster_interval(
    values: Float[np.ndarray, " n"],
    groups: Sequence[Hashable],
    draws: int = DRAWS,
    seed: int = 0,
) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean, resampling groups; NaN without values."""
    if not len(values):
        return float("nan"), float("nan")
    where = {g: i for i, g in enumerate(dict.fromkeys(groups))}
    index = np.asarray([where[g] for g in groups])
    sums, counts = np.bincount(index, values), np.bincount(index)
    rng = np.random.default_rng(seed)
    times = rng.multinomial(len(where), np.full(len(where), 1 / len(where)), size=draws)
    low, high = np.quantile((times @ sums) / (times @ counts), (0.025, 0.975))
    return float(low), float(high)


def lines(rows: Sequence[Row], metrics: Sequence[Metric], choose: Metric | None) -> list[Line]:
    """The table's lines: each method at each amount, then the best of a method's whole sweep."""
    found = []
    for method in dict.fromkeys(r["method"] for r in rows):
        mine = [r for r in rows if r["method"] == method]
        amounts = list(dict.fromkeys(r["amount"] for r in mine))
        for amount in amounts:
            some = [r for r in mine if r["amount"] == amount]
            found.append(_line(line_name(some[0]), some, metrics, choose, True))
        if len(amounts) > 1 and choose is not None:
            name = f"{method}, {mine[0]['knob']} and seed picked"
            found.append(_line(name, mine, metrics, choose, False))
    return found


def line_name(row: Row) -> str:
    """A method and its amount: "imagic, eta = 0.5"."""
    if row["amount"] is None:
        return row["method"]
    return f"{row['method']}, {row['knob']} = {row['amount']:g}"


def item_mean(rows: Sequence[Row], metric: Metric) -> float | None:
    """The mean over an item's seeds; None where nothing is defined."""
    some = [v for r in rows if (v := r["scores"][metric.identity]) is not None]
    return float(np.mean(some)) if some else None


def by_type(rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Line]:
    """The same per kind of edit, where the benchmark tells kinds."""
    found = []
    for kind in sorted({r["edit_type"] for r in rows if r["edit_type"]}):
        for line in lines([r for r in rows if r["edit_type"] == kind], metrics, None):
            found.append(line._replace(name=f"{line.name}: {kind}"))
    return found


def _line(
    name: str, rows: Sequence[Row], metrics: Sequence[Metric], choose: Metric | None, fixed: bool
) -> Line:
    of_item: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.get("scores"):
            of_item[row["item"]].append(row)
    most = max(Counter(r["item"] for r in rows).values())
    best: dict[str, list[Row]] = {}
    if choose is not None and most > 1:
        best = {item: [_best(some, choose)] for item, some in of_item.items()}
    return Line(
        name,
        len(of_item),
        {m.identity: _interval(of_item, m) for m in metrics} if fixed else {},
        {m.identity: _interval(best, m) for m in metrics} if best else {},
        most,
    )


def _best(rows: Sequence[Row], choose: Metric) -> Row:
    def rank(row: Row) -> float:
        value = row["scores"][choose.identity]
        return -np.inf if value is None else value if choose.higher else -value

    return max(rows, key=rank)


def _interval(of_item: dict[str, list[Row]], metric: Metric) -> Interval:
    values, groups = [], []
    for rows in of_item.values():
        if (value := item_mean(rows, metric)) is not None:
            values.append(value)
            groups.append(rows[0]["group"])
    array = np.asarray(values, np.float64)
    mean = float(array.mean()) if values else float("nan")
    return Interval(mean, *cluster_interval(array, groups), len(values))


def problems(
    benchmark: Benchmark, rows: Sequence[Row], others: Iterable[Problem]
) -> dict[str, dict[str, list[str]]]:
    """{method, "data" for the benchmark's own: {what: items, each with its detail}}."""
    found: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))

    def add(problem: Problem) -> None:
        text = f"{problem.item}: {problem.detail}" if problem.detail else problem.item
        named = found[problem.method or "data"][problem.what]
        if text not in named:
            named.append(text)

    for problem in (*benchmark.problems, *others):
        add(problem)
    usual: dict[Hashable, Any] = {}
    for row in rows:
        if row.get("pixels"):
            usual.setdefault(_who(row), Counter())[tuple(row["pixels"])] += 1
    for row in rows:
        for what, detail in row["problems"]:
            add(Problem(what, row["item"], detail, _who(row)))
        if row.get("pixels") and tuple(row["pixels"]) != (
            most := usual[_who(row)].most_common(1)[0][0]
        ):
            height, width = row["pixels"]
            detail = f"{width} x {height}, the others {most[1]} x {most[0]} (scored, resized)"
            add(Problem("result of another size", row["item"], detail, _who(row)))
        for name, value in (row.get("scores") or {}).items():
            if value is None:
                add(Problem(f"{name} not defined", row["item"], "", _who(row)))
    return {k: dict(v) for k, v in found.items()}


def _who(row: Row) -> str:
    return line_name(row) if row["seed"] is None else f"{line_name(row)}, seed {row['seed']}"


def markdown(
    benchmark: Benchmark,
    table: Sequence[Line],
    metrics: Sequence[Metric],
    choose: Metric | None,
    size: int,
    wrong: dict[str, dict[str, list[str]]],
    absent: Mapping[str, str],
) -> str:
    """The whole report."""
    groups = len({i.group for i in benchmark.items})
    text = [
        f"{benchmark.suite}: {len(benchmark.items)} of {benchmark.listed} listed items,"
        f" {groups} pictures; compared at {size} x {size} pixels; mean [95 % interval over"
        " pictures].",
        *([f"Read with: {'; '.join(benchmark.notes)}."] if benchmark.notes else []),
        "",
        *_rows(table, metrics, choose, len(benchmark.items)),
        "",
    ]
    if any(line.best_of > 1 for line in table) and choose is None:
        text += ["Best of N is not shown: no score here tells how well a text is followed"
                 " (--choose_by names another).", ""]  # fmt: skip
    if wrong:
        text += ["What is missing or wrong:", ""]
        for who, kinds in wrong.items():
            for what, items in kinds.items():
                more = f" and {len(items) - _MOST_NAMES} more" if len(items) > _MOST_NAMES else ""
                text.append(
                    f"* {who}: {len(items)} x {what}: {'; '.join(items[:_MOST_NAMES])}{more}"
                )
        text.append("")
    text += ["Scores: " + "; ".join(m.identity for m in metrics) + ".", ""]
    if absent:
        text += ["Scores that are left out for want of weights:", ""]
        text += [f"* {name}: {wants}" for name, wants in absent.items()]
    return "\n".join(text).rstrip()


def kinds_table(kinds: Sequence[Line], metrics: Sequence[Metric]) -> str:
    """`by_type` as Markdown."""
    most = max(line.items for line in kinds)
    return "\n".join(["By kind of edit:", "", *_rows(kinds, metrics, None, most)])


def _rows(
    table: Sequence[Line], metrics: Sequence[Metric], choose: Metric | None, total: int
) -> list[str]:
    picked = choose is not None and any(line.best for line in table)
    heads = [m.name for m in metrics]
    if picked and choose is not None:
        heads += [f"{m.name}, best of N by {choose.name}" for m in metrics]
    found = ["| method | items | " + " | ".join(heads) + " |", "|---" * (len(heads) + 2) + "|"]
    for line in table:
        shown = cells(line.fixed, metrics, line.items)
        if picked:
            n = f" (N = {line.best_of})"
            shown += [c + n if c else "" for c in cells(line.best, metrics, line.items)]
        count = str(line.items) if line.items == total else f"{line.items} of {total}"
        found.append(f"| {line.name} | {count} | " + " | ".join(shown) + " |")
    return found


def cells(values: dict[str, Interval], metrics: Sequence[Metric], items: int) -> list[str]:
    """Values as text; `items` is how many are said elsewhere."""
    return [_cell(values[m.identity], items) if m.identity in values else "" for m in metrics]


def _cell(value: Interval, items: int) -> str:
    if not value.items:
        return "not defined"
    size = math.floor(math.log10(abs(value.mean))) if value.mean else 0
    mean, low, high = (f"{v:.{min(max(3 - size, 0), 6)}f}" for v in value[:3])
    over = "" if value.items == items else f" (over {value.items})"
    return f"{mean} [{low}, {high}]{over}"
