"""Figures and `report.html` of a Flatland run, from its rows and saved pictures."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

from PIL import Image as pil

from imagic_jax.evaluation import figures, flatland_report, manifest, plots, realism
from imagic_jax.evaluation.contenders import titles_and_knobs
from imagic_jax.evaluation.flatland_report import Results
from imagic_jax.evaluation.items import Item, hashed
from imagic_jax.evaluation.units import pictures_file
from imagic_jax.jobs import output
from imagic_jax.report.benchmark_page import benchmark_page

_RANDOM, _WORST, _STRIPS = 16, 8, 3  # items shown


def write(results: Results, notes: Sequence[str], out: Path) -> None:
    """Writes OUT/figures/*.png and *.svg, and OUT/report.html."""
    titles, knobs = titles_and_knobs()
    drawn = {}
    with plots.style():
        for stem, (caption, figure) in plots.figures(results, titles, knobs).items():
            path = out / "figures" / stem
            plots.save(figure, path)
            drawn[caption] = path.with_suffix(".svg").read_text()
    sheets = {}
    for stem, (caption, sheet) in _sheets(results, out).items():
        output.save_picture(sheet, out / "figures" / f"{stem}.png")
        sheets[caption] = sheet
    page = benchmark_page(
        f"Flatland benchmark, {results.part} items",
        [*notes, *results.notes],
        results.problems,
        flatland_report.grids(results),
        drawn,
        sheets,
    )
    output.write_text(out / "report.html", page)


def with_realism(results: Results, out: Path) -> Results:
    """The same with what the folder's pictures say as sets.

    Raises:
        UserError: what an earlier run kept of them is broken.
    """
    those = {m: results.chosen[m] for m in flatland_report.edited(results)}
    names = {n for m in those for n in results.found[m].items}
    items = [i for i in _items(out, results.part) if i.name in names]
    return dataclasses.replace(results, realism=realism.update(items, those, out))


def _sheets(results: Results, out: Path) -> dict[str, tuple[str, pil.Image]]:
    """Contact sheets and strips: {file stem: (caption, picture)}."""
    titles, _ = titles_and_knobs()
    methods = flatland_report.edited(results)
    chosen = {m: results.chosen[m] for m in methods}
    there = {
        m: [i for i in _items(out, results.part) if pictures_file(out, m, i).is_file()]
        for m in methods
    }
    every = [i for i in _items(out, results.part) if any(i in there[m] for m in methods)]
    found: dict[str, tuple[str, pil.Image]] = {}
    if every:
        some = hashed(every)[:_RANDOM]
        found["random-cases"] = (
            f"{len(some)} items by the hash of their names, first seed",
            figures.contact_sheet(some, out, chosen),
        )
    for method in methods:
        if method.startswith("imagic") and there[method]:
            bad = figures.worst(there[method], results.found[method], chosen[method], _WORST)
            found[f"worst-cases-{method}"] = (
                f"The {len(bad)} worst items of {titles.get(method, method)}",
                figures.contact_sheet(bad, out, chosen),
            )
    whole = {
        m: [i for i in _items(out, results.swept_part) if pictures_file(out, m, i).is_file()]
        for m in ("imagic", "imagic_no_tuning")
        if m in results.swept
    }
    both = [i for i in whole.get("imagic", []) if i in whole.get("imagic_no_tuning", [])]
    if both:
        found["fig7-ablation"] = (
            "The pre-trained model and the tuned one over eta (the paper's Fig. 7)",
            figures.ablation_strip(hashed(both)[:_STRIPS], out, "imagic", "imagic_no_tuning"),
        )
    if whole.get("imagic"):
        seeds = results.swept["imagic"].rows.shape[1]
        first = hashed(whole["imagic"])[0]
        found["fig15-seeds"] = (
            "Seeds over eta (the paper's Fig. 15), Imagic",
            figures.seed_strip(first, out, "imagic", seeds),
        )
    return found


def _items(out: Path, part: str) -> list[Item]:
    path = out / "manifest.json"
    return manifest.read(json.loads(path.read_text())[part]) if path.is_file() else []
