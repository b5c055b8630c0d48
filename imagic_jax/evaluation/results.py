"""Scoring results that lie in a benchmark's published layout, whoever made them.

Every (item, result) becomes one line of `scores.jsonl`: scores by id, or what is wrong. A line is
used again as long as picture, data, size and measures are the same.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation import piebench, rows
from imagic_jax.evaluation.edit_items import (
    Benchmark,
    EditItem,
    Problem,
    find_output,
    scaled_mask,
    strangers,
)
from imagic_jax.jobs import pictures
from imagic_jax.metrics.catalog import Opened
from imagic_jax.metrics.contract import Pairs
from imagic_jax.runtime.progress import Reporter

COPY = "copy"  # the source handed back: the anchor that every table shows
_BATCH = 16
_VARIANT = re.compile(r"([a-z_]+)(-?[\d.]+(?:e[-+]?\d+)?)-seed(\d+)$")


class Candidate(NamedTuple):
    """A folder of results, one per item."""

    method: str
    folder: Path | None  # None: the sources themselves
    knob: str | None = None  # "eta" or another method's amount of the edit, where it is known
    amount: float | None = None
    seed: int | None = None


def candidates(method: str, folder: Path) -> list[Candidate]:
    """A method's result folders: one per amount and seed as `editing.run` leaves them, or itself.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(
            f"--results: there is no folder {folder} with results of {method}; it must hold"
            " pictures under the benchmark's names"
        )
    found = []
    for path in folder.iterdir():
        if path.is_dir() and (match := _VARIANT.match(path.name)):
            found.append(Candidate(method, path, match[1], float(match[2]), int(match[3])))
    found.sort(key=lambda c: (c.knob, c.amount, c.seed))
    return found or [Candidate(method, folder)]


def score(
    benchmark: Benchmark,
    those: Sequence[Candidate],
    metrics: Opened,
    size: int,
    path: Path,
    reporter: Reporter,
) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Scores every result that `path` does not hold yet.

    Args:
        benchmark: its usable items.
        those: whose results.
        metrics: what to compute.
        size: pixels per side at which pictures are compared.
        path: the JSONL of all scores.
        reporter: shows progress.

    Returns:
        One line per item and candidate, in that order, and files that belong to no item.

    Raises:
        UserError: a folder holds no result at all.
    """
    ids = [m.identity for m in metrics.metrics]
    known = {_key(r): r for r in rows.read(path)}
    rows.write(path, known.values())
    progress = reporter.stage("scoring", len(benchmark.items) * len(those))
    found: list[dict[str, Any]] = []
    pending: list[tuple[dict[str, Any], Pairs]] = []

    def flush() -> None:
        for row, values in zip(pending, _compute(pending, metrics), strict=True):
            row[0]["scores"] = dict(zip(ids, values, strict=True))
            rows.append(path, row[0])
        pending.clear()

    for item in benchmark.items:
        source = None
        for candidate in those:
            row = _about(benchmark, item, candidate, size)
            found.append(row)
            before = known.get(_key(row), {})
            if list(before.get("scores") or ids) == ids and before.items() >= row.items():
                row.update(before)
            elif not row["problems"]:
                if source is None:
                    source = pictures.load_source(item.image, size).square[0] * 0.5 + 0.5
                edits = _pair(benchmark, item, candidate, source, size, row)
                if edits is not None:
                    pending.append((row, edits))
            if len(pending) >= _BATCH:
                flush()
            progress.advance(len(found))
    flush()
    others = _folders(benchmark, those, found)
    rows.write(path, found)
    return [rows.plain(r) for r in found], others


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row.get(k) for k in ("item", "method", "knob", "amount", "seed"))


def _about(benchmark: Benchmark, item: EditItem, of: Candidate, size: int) -> dict[str, Any]:
    """A line without scores."""
    row: dict[str, Any] = {
        "suite": benchmark.suite,
        "data": benchmark.digest,
        "item": item.id,
        "group": item.group,
        "edit_type": item.edit_type,
        "method": of.method,
        "knob": of.knob,
        "amount": of.amount,
        "seed": of.seed,
        "size": size,
        "sha256": None,
        "problems": [],
    }
    if of.folder is not None:
        path = find_output(of.folder, item)
        if path is None:
            row["problems"].append(["result missing", f"there is no {of.folder / item.output}"])
        else:
            row["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return row


def _pair(
    benchmark: Benchmark,
    item: EditItem,
    of: Candidate,
    source: Float[np.ndarray, "s s 3"],
    size: int,
    row: dict[str, Any],
) -> Pairs | None:
    """A batch of one; None where the result cannot be used, which the row then says."""
    result = source
    if of.folder is not None:
        path = find_output(of.folder, item)
        assert path is not None
        read = _read(path, size, benchmark.strips)
        if isinstance(read, Problem):
            row["problems"].append([read.what, read.detail])
            return None
        result, row["pixels"] = read
    mask = None
    if item.mask is not None:
        mask = scaled_mask(piebench.edit_mask(item.mask), size)[None]
    return Pairs(result[None], source[None], mask, (item.target_text,), (item.source_text or "",))


def _read(
    path: Path, size: int, strips: bool
) -> tuple[Float[np.ndarray, "s s 3"], list[int]] | Problem:
    """A result in [0, 1] at the size of comparison, and its own (height, width)."""
    try:
        source = pictures.load_source(path, size)
    except UserError as error:
        return Problem("result unreadable", "", str(error).removeprefix("--image: "))
    height, width = source.upright.shape[:2]
    if not _is_finite(path):
        return Problem("result not finite", "", f"{path} holds values that are no numbers")
    if strips and width > height and width % height == 0:  # instruction | source | ... | result
        source = pictures.load_source(path, size, f"{width - height},0,{height}")
    elif width != height:
        return Problem("result not square", "", f"{path} has {width} x {height} pixels")
    return source.square[0] * 0.5 + 0.5, [height, width]


def _is_finite(path: Path) -> bool:
    """Only floating-point pictures can hold NaN."""
    with pil.open(path) as opened:
        return not opened.mode.startswith("F") or bool(np.isfinite(np.asarray(opened)).all())


def _compute(
    pending: Sequence[tuple[dict[str, Any], Pairs]], metrics: Opened
) -> Iterator[list[float | None]]:
    """All scores of all pending edits, edit by edit; None where one is not defined."""
    if not pending:
        return
    parts = [p for _, p in pending]
    masks = [np.asarray(p.mask, np.float32) for p in parts if p.mask is not None]
    together = Pairs(
        np.concatenate([p.output for p in parts]),
        np.concatenate([p.reference for p in parts]),
        np.concatenate(masks) if len(masks) == len(parts) else None,
        [t for p in parts for t in p.text or ()],
        [t for p in parts for t in p.source_text or ()],
    )
    found = metrics.score(together).values
    for values in zip(*(found[m.name] for m in metrics.metrics), strict=True):
        yield [float(v) if np.isfinite(v) else None for v in values]


def _folders(
    benchmark: Benchmark, those: Sequence[Candidate], found: Sequence[dict[str, Any]]
) -> list[Problem]:
    """Files of no item; a folder without any result is a mistake."""
    problems = []
    for candidate in those:
        if candidate.folder is None:
            continue
        mine = [r for r in found if _key(r)[1:] == (candidate.method, *candidate[2:])]
        others = strangers(candidate.folder, benchmark.items)
        if all(r["sha256"] is None for r in mine):
            has = f"it holds {others[0]} and the like" if others else "it holds no picture"
            raise UserError(
                f"--results: no result of {candidate.method} is in {candidate.folder}: expected"
                f" names such as {benchmark.items[0].output}; {has}"
            )
        problems += [Problem("file of no item", o, "", candidate.method) for o in others]
    return problems
