"""Running an editing method over a benchmark: one fixed protocol, every item, no hand.

Every item gets the same settings and the same seeds: what `imagic edit` would draw for it. Each
(amount, seed) has a folder of its own in the benchmark's published layout, so that every one of
them is a result folder that others' scripts, `--score_only` and `imagic study` can read.

    OUT/METHOD/settings.json      what decides the pictures
    OUT/METHOD/items.jsonl        one line per finished item, with the hashes of its pictures
    OUT/METHOD/eta1-seed0/...     results
"""

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagic_jax.backbones.registry import Opened
from imagic_jax.errors import UserError
from imagic_jax.evaluation import benchmark_editors, rows
from imagic_jax.evaluation.benchmark_editors import Editor
from imagic_jax.evaluation.edit_items import Benchmark, EditItem, Problem
from imagic_jax.jobs import output, pictures
from imagic_jax.jobs.work import Work
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.loop import NonFiniteLoss
from imagic_jax.runtime.progress import Reporter


def run(
    benchmark: Benchmark,
    work: Work,
    opened: Opened,
    out: Path,
    reporter: Reporter,
    stop: StopFlag,
) -> list[Problem]:
    """Edits every item that `out`/METHOD does not hold yet; returns what went wrong.

    Raises:
        UserError: `out`/METHOD holds results of other settings, or no item could be edited.
        Interrupted: stopped on request; the same command goes on.
    """
    method, cascade = work.name, opened.cascade
    folder = out / method
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "weights": opened.fingerprint(),
        "data": benchmark.digest,
        **rows.plain(benchmark_editors.decides(work, cascade)),
    }
    output.same_run(folder / "settings.json", about)
    path = folder / "items.jsonl"
    done = {r["item"]: r for r in rows.read(path) if _is_whole(folder, r)}
    rows.write(path, done.values())
    left = [i for i in benchmark.items if i.id not in done]
    if left:
        progress = reporter.stage(method, len(benchmark.items), len(done))
        for note in _texts_lost(opened, left):
            reporter.warn(note)
        with benchmark_editors.open_editor(work, opened, left, stop) as editor:
            for item in left:
                done[item.id] = _one(editor, item, cascade.size, folder)
                rows.append(path, done[item.id])
                progress.advance(len(done))
                if stop and len(done) < len(benchmark.items):
                    raise Interrupted(f"stopped after {len(done)} items; the same command goes on")
    shutil.rmtree(folder / "work", ignore_errors=True)
    found = []
    for item in benchmark.items:
        found += [Problem(w, item.id, d, method) for w, d in done[item.id]["problems"]]
    if not any(done[i.id]["pictures"] for i in benchmark.items):
        raise UserError(f"--methods: {method} edited no item ({found[0].what}: {found[0].detail})")
    return found


def _one(editor: Editor, item: EditItem, size: int, folder: Path) -> dict[str, Any]:
    """Edits one item, saves its pictures; returns its line."""
    began = time.perf_counter()
    work = folder / "work" / hashlib.sha256(item.id.encode()).hexdigest()[:16]
    saved: dict[str, str] = {}
    problems: list[tuple[str, str]] = []
    try:
        drawn = editor.edit(item, pictures.load_source(item.image, size), work)
    except Interrupted as error:
        raise Interrupted(f"{error}, {item.id}; the same command goes on") from error
    except (NonFiniteLoss, UserError) as error:
        diverged = isinstance(error, NonFiniteLoss)
        problems.append(("fit diverged" if diverged else "edit refused", str(error)))
        drawn = np.zeros((0, size, size, 3), np.float32)
    for variant, picture in zip(editor.variants, drawn, strict=False):
        if not np.isfinite(picture).all():
            problems.append(("result not finite", variant.folder))
            continue
        path = folder / variant.folder / item.output
        path.parent.mkdir(parents=True, exist_ok=True)
        output.save_picture(pictures.to_pil(picture), path)
        saved[variant.folder] = _digest(path)
    shutil.rmtree(work, ignore_errors=True)
    seconds = round(time.perf_counter() - began, 2)
    line = {"item": item.id, "output": item.output, "pictures": saved, "problems": problems}
    return {**line, "seconds": seconds}


def _is_whole(folder: Path, row: dict[str, Any]) -> bool:
    """Whether the pictures of a finished item are still what was written."""
    try:
        files = {folder / v / row["output"]: d for v, d in row["pictures"].items()}
        return all(p.is_file() and _digest(p) == d for p, d in files.items())
    except (KeyError, AttributeError):
        return False


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _texts_lost(opened: Opened, items: Sequence[EditItem]) -> list[str]:
    """One warning for all texts that the model cannot take as they are."""
    lost = {i.target_text: opened.cascade.text.check(i.target_text) for i in items}
    cut = [f"“{text}”: {notes[0]}" for text, notes in lost.items() if notes]
    if not cut:
        return []
    return [f"{len(cut)} of {len(lost)} texts do not reach the model whole, such as {cut[0]}"]
