"""Imagic on Flatland items: fit, render a sweep, score, and the rows it must be compared with.

Rows: Imagic at every eta; the same without fine-tuning; copy the input; sample from the text.
Per-item results go to a JSONL as they come, so an interrupted run goes on and one function makes
every table from the file.
"""

import dataclasses
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.backbones.registry import Loaded
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import Fit
from imagic_jax.evaluation.fidelity import to_free_size
from imagic_jax.evaluation.items import Item
from imagic_jax.evaluation.scoring import MOST_RESIDUAL, as_row, judge, score, to_reading_size
from imagic_jax.flatland import free_reader
from imagic_jax.jobs import output
from imagic_jax.jobs.sample import draw_texts
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.progress import Reporter


def fit_item(loaded: Loaded, item: Item, settings: EditSettings) -> Fit:
    """Fits one item's source to its text; the key is the item's own."""
    source, _ = item.pictures(loaded.cascade.size)
    image = jnp.asarray(source)[None] * 2.0 - 1.0
    text = loaded.params["text"]
    return imagic.fit(
        loaded.cascade,
        loaded.params,
        image,
        loaded.cascade.text.encode(text, [item.text]),
        loaded.cascade.text.encode(text, [""]),
        settings.embedding,
        settings.tuning,
        jax.random.fold_in(jax.random.key(settings.seed), item.nuisance_seed),
    )


def untuned(fit: Fit) -> Fit:
    """The same fit without fine-tuning: the embedding alone."""
    return fit._replace(stages=tuple(s._replace(delta=None) for s in fit.stages))


def run(
    loaded: Loaded, items: Sequence[Item], settings: EditSettings, out: Path, reporter: Reporter
) -> list[dict[str, Any]]:
    """Scores every item that `out`/items.jsonl does not hold yet; returns all rows.

    Pictures go to `out`/pictures/ITEM.npz (uint8): source, ideal, imagic (etas, seeds), untuned.
    """
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    path = out / "items.jsonl"
    rows = _whole_items(path)
    done = {r["item"] for r in rows}
    output.write_text(path, "".join(json.dumps(r) + "\n" for r in rows))
    left = [i for i in items if i.name not in done]
    alone = text_only(loaded, left, settings, reporter) if left else {}
    progress = reporter.stage("items", len(items), len(done))
    for i, item in enumerate(left, len(done)):
        new = _one(loaded, item, settings, out / "pictures" / f"{item.name}.npz")
        new.append(alone[item.name])
        with path.open("a") as file:
            file.write("".join(json.dumps(r) + "\n" for r in new))
        rows += new
        progress.advance(i + 1)
    return rows


def _whole_items(path: Path) -> list[dict[str, Any]]:
    """The rows of all items that were finished; a run may have been killed in mid-line."""
    rows = []
    for line in path.read_text().splitlines() if path.is_file() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    done = {r["item"] for r in rows if r["method"] == "text-only"}  # an item's last row
    return [r for r in rows if r["item"] in done]


def _one(
    loaded: Loaded, item: Item, settings: EditSettings, pictures: Path
) -> list[dict[str, Any]]:
    fit = fit_item(loaded, item, settings)
    etas, seeds = settings.etas, settings.seeds
    zero = dataclasses.replace(settings, etas=(0.0,), seeds=seeds[:1])
    render = imagic.render
    swept = np.asarray(render(loaded.cascade, loaded.params, fit, etas, seeds, settings.sampling))
    bare = np.asarray(
        render(loaded.cascade, loaded.params, untuned(fit), etas, zero.seeds, settings.sampling)
    )
    source, ideal = item.pictures()
    flat = to_reading_size(swept.reshape(-1, *swept.shape[2:]))
    where = [{"eta": e, "seed": s} for e in etas for s in seeds]
    rows = [
        as_row(item, s, method="imagic", **w) for s, w in zip(score(item, flat), where, strict=True)
    ]
    small = to_reading_size(bare[:, 0])
    rows += [
        as_row(item, s, method="no fine-tuning", eta=e, seed=seeds[0])
        for s, e in zip(score(item, small), etas, strict=True)
    ]
    rows += [
        as_row(item, score(item, source[None])[0], method="copy", eta=None, seed=None),
        as_row(item, score(item, ideal[None])[0], method="oracle", eta=None, seed=None),
    ]
    np.savez_compressed(
        pictures,
        source=_bytes(source),
        ideal=_bytes(ideal),
        imagic=_bytes(flat).reshape(len(etas), len(seeds), *flat.shape[1:]),
        untuned=_bytes(small),
    )
    return rows


def text_only(
    loaded: Loaded, items: Sequence[Item], settings: EditSettings, reporter: Reporter
) -> dict[str, dict[str, Any]]:
    """The rows of pictures drawn from the target texts alone, by item.

    Their nuisance is their own, so the factors are read freely (the other scores against the
    source's nuisance); they are valid by the same residual gate.
    """
    one = dataclasses.replace(settings, seeds=settings.seeds[:1])
    drawn = draw_texts(loaded, [i.text for i in items], "", one, reporter)
    small = to_reading_size(drawn)
    rows = {}
    for i, (item, reading) in enumerate(
        zip(items, free_reader.read_free(to_free_size(drawn)), strict=True)
    ):
        base = score(item, small[i : i + 1])[0]
        valid = reading.residual <= MOST_RESIDUAL
        judged = judge(item, reading.factors, base.identity, valid)
        read = base._replace(**judged, residual=reading.residual)
        rows[item.name] = as_row(item, read, method="text-only", eta=None, seed=one.seeds[0])
    return rows


def _bytes(pictures: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(pictures) * 255.0 + 0.5, 0, 255).astype(np.uint8)


#: Columns of the tables: title, key, how it is averaged.
COLUMNS = (
    ("edit success", "success"),
    ("preservation", "preservation"),
    ("identity", "identity"),
    ("JOINT", "joint"),
    ("success, ungated", "read_success"),
    ("JOINT, ungated", "read_joint"),
    ("background PSNR", "background_psnr"),
    ("PSNR to source", "source_psnr"),
)


def mean_scores(rows: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Means over items of the means over seeds; NaN entries are left out."""
    by_item: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_item[row["item"]].append(row)
    means = {"items": float(len(by_item))}
    for _, key in COLUMNS:
        values = [np.mean([float(r[key]) for r in group]) for group in by_item.values()]
        values = [v for v in values if np.isfinite(v)]
        means[key] = float(np.mean(values)) if values else float("nan")
    return means


def _best_etas(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Imagic's rows at the best eta of each item and seed: what choosing by eye could reach."""
    rank = itemgetter("joint", "read_joint", "read_success", "preservation")
    best: dict[tuple[str, int], dict[str, Any]] = {}
    for row in rows:
        where = (row["item"], row["seed"])
        if row["method"] == "imagic" and (where not in best or rank(row) > rank(best[where])):
            best[where] = row
    return list(best.values())


def table(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Named rows of the result table; "chosen" is the eta with the best joint success."""
    found: dict[str, dict[str, float]] = {}
    etas = sorted({r["eta"] for r in rows if r["method"] == "imagic"})
    sweep = {
        e: mean_scores(r for r in rows if r["method"] == "imagic" and r["eta"] == e) for e in etas
    }
    best = max(etas, key=lambda e: (sweep[e]["joint"], sweep[e]["read_success"]))
    for eta in etas:
        found[f"imagic, eta = {eta:g}" + (" (chosen)" if eta == best else "")] = sweep[eta]
    found["imagic, eta chosen per picture by the scores"] = mean_scores(_best_etas(rows))
    for edit in dict.fromkeys(r["edit"] for r in rows):
        found[f"imagic, eta = {best:g}, {edit} edits"] = mean_scores(
            r for r in rows if r["method"] == "imagic" and r["eta"] == best and r["edit"] == edit
        )
    bare = [r for r in rows if r["method"] == "no fine-tuning"]
    for eta in dict.fromkeys((0.0, best)):
        chosen = [r for r in bare if r["eta"] == eta]
        if chosen:
            found[f"no fine-tuning, eta = {eta:g}"] = mean_scores(chosen)
    for method in ("copy", "text-only", "oracle"):
        found[method] = mean_scores(r for r in rows if r["method"] == method)
    return found


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """The table as Markdown."""
    lines = ["| method | n | " + " | ".join(t for t, _ in COLUMNS) + " |"]
    lines.append("|---" * (len(COLUMNS) + 2) + "|")
    for name, means in rows.items():
        cells = [f"{means[k]:.1f}" if "psnr" in k else f"{means[k]:.3f}" for _, k in COLUMNS]
        lines.append(f"| {name} | {means['items']:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
