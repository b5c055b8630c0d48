"""Pictures of a public benchmark's results, chosen by rule: the first by hash, and the worst."""

import hashlib
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation.edit_items import Benchmark, EditItem, find_output
from imagic_jax.evaluation.results import COPY, Candidate
from imagic_jax.jobs import pictures
from imagic_jax.metrics.metric import Metric
from imagic_jax.report.strips import grid

_SIDE = 160
_MISSING = (214, 214, 214)


def sheet(
    benchmark: Benchmark,
    those: Sequence[Candidate],
    rows: Sequence[dict[str, Any]],
    metric: Metric,
    first: int = 8,
    worst: int = 4,
) -> pil.Image:
    """One row per item: the input, and every method's result at every amount.

    Args:
        benchmark: its items.
        those: whose results; of several seeds the first.
        rows: their lines of `scores.jsonl`.
        metric: what the worst are worst by, in the mean over all results.
        first, worst: how many items of either.
    """
    shown = list({(c.method, c.amount): c for c in reversed(those) if c.folder}.values())[::-1]
    chosen = by_hash(benchmark.items)[:first]
    low = [i for i in _worst_first(benchmark, rows, metric) if i not in chosen][:worst]
    pictured = [[_input(i), *(_result(c, i) for c in shown)] for i in (*chosen, *low)]
    labels = [_wrapped(i.target_text) for i in chosen]
    labels += [_wrapped(f"worst: {i.target_text}") for i in low]
    heads = [c.method if c.amount is None else f"{c.method} {c.amount:g}" for c in shown]
    title = f"{benchmark.suite}: first by hash, and worst by {metric.name}"
    return grid(pictured, ["input", *heads], labels, title)


def by_hash(items: Sequence[EditItem]) -> list[EditItem]:
    """Items in the order of their ids' hashes: nobody's choice."""
    return sorted(items, key=lambda i: hashlib.sha256(i.id.encode()).hexdigest())


def _worst_first(
    benchmark: Benchmark, rows: Sequence[dict[str, Any]], metric: Metric
) -> list[EditItem]:
    found: dict[str, list[float]] = {}
    for row in rows:
        value = (row.get("scores") or {}).get(metric.identity)
        if value is not None and row["method"] != COPY:
            found.setdefault(row["item"], []).append(value if metric.higher else -value)
    scored = [i for i in benchmark.items if i.id in found]
    return sorted(scored, key=lambda i: float(np.mean(found[i.id])))


def _input(item: EditItem) -> pil.Image:
    return pictures.to_pil(pictures.load_source(item.image, _SIDE).square[0])


def _result(candidate: Candidate, item: EditItem) -> pil.Image:
    """A result, or a grey square where there is none that can be shown."""
    path = None if candidate.folder is None else find_output(candidate.folder, item)
    try:
        if path is not None:
            return pictures.to_pil(pictures.load_source(path, _SIDE).square[0])
    except UserError:  # named in the table
        pass
    return pil.new("RGB", (_SIDE, _SIDE), _MISSING)


def _wrapped(text: str) -> str:
    return "\n".join(textwrap.wrap(text, 26)[:6])
