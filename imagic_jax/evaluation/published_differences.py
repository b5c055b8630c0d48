"""How two methods differ on a public benchmark, item by item.

Nothing is corrected for there being several differences: which of them are asked is up to who runs
the benchmark.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from imagic_jax.evaluation.published_table import (
    Interval,
    Row,
    cells,
    cluster_interval,
    item_mean,
    line_name,
)
from imagic_jax.evaluation.results import COPY
from imagic_jax.metrics.metric import Metric


class Difference(NamedTuple):
    """One line of the table minus another, on the items where both are scored."""

    name: str  # "imagic, eta = 0.7 minus sdedit, strength = 0.6"
    values: dict[str, Interval]  # by identity


def differences(rows: Sequence[Row], metrics: Sequence[Metric]) -> list[Difference]:
    """The first method at each amount against every other method at each amount.

    Items of one picture are resampled together, as in the table.
    """
    lines: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    method_of: dict[str, str] = {}
    for row in rows:
        if row["method"] == COPY:
            continue
        method_of[line_name(row)] = row["method"]
        if row.get("scores"):
            lines[line_name(row)][row["item"]].append(row)
    first = next(iter(method_of.values()), None)
    return [
        Difference(f"{a} minus {b}", {m.identity: _paired(lines[a], lines[b], m) for m in metrics})
        for a in method_of
        for b in method_of
        if method_of[a] == first != method_of[b]
    ]


def _paired(
    a: Mapping[str, Sequence[Row]], b: Mapping[str, Sequence[Row]], metric: Metric
) -> Interval:
    values, groups = [], []
    for item, mine in a.items():
        x, y = item_mean(mine, metric), item_mean(b.get(item, ()), metric)
        if x is not None and y is not None:
            values.append(x - y)
            groups.append(mine[0]["group"])
    array = np.asarray(values, np.float64)
    mean = float(array.mean()) if values else float("nan")
    return Interval(mean, *cluster_interval(array, groups), len(values))


def markdown(found: Sequence[Difference], metrics: Sequence[Metric]) -> str:
    """The differences as a table."""
    most = max(i.items for d in found for i in d.values.values())
    text = [f"Differences on the same {most} items, mean [95 % interval over pictures]:", ""]
    text += ["| pair | " + " | ".join(m.name for m in metrics) + " |"]
    text += ["|---" * (len(metrics) + 1) + "|"]
    for d in found:
        text.append(f"| {d.name} | " + " | ".join(cells(d.values, metrics, most)) + " |")
    return "\n".join(text)
