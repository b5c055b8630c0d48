"""Everything that is made from the rows of a Flatland run: tables, answers, summaries of sweeps.

One call makes all of it again from `rows.jsonl`; nothing is kept between.
"""

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from imagic_jax.evaluation import checks, curves, eta_gain, statistics, tables
from imagic_jax.evaluation.anchors import PREFIX
from imagic_jax.evaluation.checks import Check, says
from imagic_jax.evaluation.contenders import given_to
from imagic_jax.evaluation.eta_gain import Gain
from imagic_jax.evaluation.flatland_bench import BACK_PART
from imagic_jax.evaluation.realism import Realism
from imagic_jax.evaluation.rows import plain
from imagic_jax.evaluation.statistics import Comparison, Interval
from imagic_jax.evaluation.tables import Column, Line, Row, Sweep
from imagic_jax.jobs import eta_choice, output


@dataclasses.dataclass(frozen=True, kw_only=True)
class Results:
    """What a run says.

    Attributes:
        part: "test" or "validation".
        found: sweeps of the part, by method.
        chosen: the strength of every method.
        factors, pixels, costs: tables.
        back: what was edited back, against the source.
        kinds: joint success by kind of edit and split.
        comparisons: Imagic against every other method, with Holm's p.
        swept: whole sweeps of the part, or of validation where the part has chosen strengths alone.
        swept_part: which of the two.
        summaries: of every whole sweep, by method and name.
        gains: eta by score against one fixed eta.
        answers: C1-C6.
        problems: what is missing or broken, in sentences.
        notes: how the tables were made.
        realism: KID of outputs and ideal edits, by method; `realism.update` finds it.
    """

    part: str
    found: dict[str, Sweep]
    chosen: dict[str, float]
    factors: list[Line]
    pixels: list[Line]
    costs: list[Line]
    back: list[Line]
    kinds: dict[str, dict[str, Interval]]
    comparisons: dict[str, tuple[Comparison, float]]
    swept: dict[str, Sweep]
    swept_part: str
    summaries: dict[str, dict[str, Interval]]
    gains: dict[str, Gain]
    answers: list[Check]
    problems: list[str]
    notes: list[str]
    realism: dict[str, Realism] = dataclasses.field(default_factory=dict)


def results(rows: Sequence[Row], part: str, **options: Any) -> Results:
    """Everything from rows; `options` are those of `statistics.bootstrap`.

    Raises:
        UserError: the rows were scored in another way.
    """
    found, validation = tables.sweeps(rows, part), tables.sweeps(rows, "validation")
    notes = []
    auto = _with_choices(found, validation)
    if auto is not None:
        notes += [
            f"eta by score: fidelity may fall by {auto:g} dB, chosen on validation",
            f"best by score: of {found['imagic'].rows[0].size} pictures per item (etas and seeds)"
            f" with at least {eta_choice.MOST:g} of the alignment's rise the most faithful",
        ]
    others = {m: s for m, s in validation.items() if m not in found}
    chosen, every = tables.chosen_strengths({**found, **others}, validation), found
    found = {m: tables.main_split(s) for m, s in every.items()}
    if any(len(found[m].items) < len(every[m].items) for m in found):
        notes.append("tables are about the split iid; other splits have lines by kind of edit")
    methods = {m: s for m, s in found.items() if not m.startswith(PREFIX)}
    swept, swept_part = whole_sweeps(methods, validation, part)
    wrong = problems(every)
    if swept_part != part:
        notes.append("whole sweeps, and what is said about them, are of validation items")
        wrong += [f"validation: {p}" for p in problems(swept)]
    lines = functools.partial(
        tables.table, chosen=chosen, knobs=[m for m, s in swept.items() if len(s.strengths) > 1]
    )
    learned = any(r.get("wclip") is not None for r in rows)
    pixel_columns = tables.PIXEL_COLUMNS + (tables.LEARNED_COLUMNS if learned else ())
    return Results(
        part=part,
        found=found,
        chosen=chosen,
        factors=lines(found, columns=tables.FACTOR_COLUMNS, **options),
        pixels=lines(found, columns=pixel_columns, **options),
        costs=lines(methods, columns=tables.COST_COLUMNS, **options),
        back=_back(rows, **options),
        kinds=tables.by_kind(every, chosen, **options),
        comparisons=tables.comparisons(found, chosen, **options),
        swept=swept,
        swept_part=swept_part,
        summaries={m: summary(s, chosen[m], **options) for m, s in swept.items()},
        gains=_gains(found, swept, chosen, part, **options),
        answers=checks.checks(found, chosen, swept, **options),
        problems=wrong,
        notes=notes,
    )


def _with_choices(found: dict[str, Sweep], validation: Mapping[str, Sweep]) -> float | None:
    """Adds Imagic with the eta that `--eta=auto` takes, and with the best of all its pictures;
    returns the tolerance of the first, None where there is nothing to choose by."""
    imagic = found.get("imagic")
    if imagic is None or not eta_gain.can_choose(imagic):
        return None
    found[tables.AUTO], tolerance = eta_gain.chosen_by_score(
        imagic, validation.get("imagic", imagic)
    )
    found[tables.BEST] = eta_gain.best_of_all(imagic)
    return tolerance


def whole_sweeps(
    methods: Mapping[str, Sweep], validation: Mapping[str, Sweep], part: str
) -> tuple[dict[str, Sweep], str]:
    """(sweeps of the part and "part"), or of validation where the part has none.

    Methods that were drawn on validation items alone are always those of validation.
    """
    whole = {m: s for m, s in validation.items() if len(s.strengths) > 2}
    if whole and not any(len(s.strengths) > 2 for s in methods.values()):
        return whole, "validation"
    return {**methods, **{m: s for m, s in whole.items() if m not in methods}}, part


def _gains(
    found: Mapping[str, Sweep],
    swept: Mapping[str, Sweep],
    chosen: Mapping[str, float],
    part: str,
    **options: Any,
) -> dict[str, Gain]:
    """Eta by score against the best fixed eta: both chosen on validation for test pictures, where
    they were swept; else each picture's on all other validation pictures."""
    if tables.AUTO in found and part == "test":
        fixed = eta_gain.at_strength(found["imagic"], chosen["imagic"])
        return eta_gain.gains(found[tables.AUTO], fixed, **options)
    if "imagic" in swept and eta_gain.can_choose(swept["imagic"]):
        return eta_gain.gains(*eta_gain.left_out(swept["imagic"]), **options)
    return {}


def _back(rows: Sequence[Row], **options: Any) -> list[Line]:
    """What was edited twice: once to the text, and back."""
    found = tables.sweeps(rows, BACK_PART)
    return [tables.line(s, s.strengths[0], tables.BACK_COLUMNS, **options) for s in found.values()]


def summary(sweep: Sweep, strength: float, **options: Any) -> dict[str, Interval]:
    """What a whole sweep says: at the fixed strength, at best, and how much it trades."""
    joint, kept = sweep.values("joint"), sweep.values("preservation")
    done = sweep.values("read_success")
    there = np.asarray((np.isfinite(joint) & np.isfinite(kept)).any(axis=(1, 2)))
    joint, pair = joint[there], np.stack([kept, done], axis=-2)[there]
    if not len(joint):
        return {}
    at = sweep.strengths.index(strength)
    edits = [e for e, t in zip(sweep.edits, there, strict=True) if t]

    def interval(values: np.ndarray, statistic: statistics.Statistic) -> Interval:
        return statistics.bootstrap(values, statistic, edits, **options)

    fixed = statistics.rate(joint[..., at], edits, **options)
    if len(sweep.strengths) == 1:
        return {"J_fix": fixed}
    return {
        "J_fix": fixed,
        "J_orc": interval(joint, curves.oracle),
        "J_orc - J_fix": interval(joint, lambda v: curves.oracle(v) - curves.fixed(v, at)),
        "hypervolume": interval(pair, lambda v: curves.hypervolume(v[..., 0, :], v[..., 1, :])),
        "hypervolume, hull": interval(
            pair, lambda v: curves.hull_hypervolume(v[..., 0, :], v[..., 1, :])
        ),
        "success at preservation 0.9": interval(
            pair, lambda v: curves.at_preservation(v[..., 0, :], v[..., 1, :], 0.9)
        ),
        "window": interval(joint, lambda v: curves.window(v).mean(axis=(-1, -2))),
    }


def problems(found: Mapping[str, Sweep]) -> list[str]:
    """Pictures that are missing or broken, named: they are failed edits, or left out, not zeros."""
    said = []
    for method, sweep in found.items():
        broken: dict[str, list[str]] = {}
        for (i, k, e), row in np.ndenumerate(sweep.rows):
            where = f"{sweep.items[i]} (seed {k}, strength {sweep.strengths[e]:g})"
            if row is None:
                broken.setdefault("not run", []).append(where)
            elif row["fault"]:
                broken.setdefault(row["fault"], []).append(where)
        for fault, where in broken.items():
            more = f" and {len(where) - 3} more" if len(where) > 3 else ""
            rule = "left out" if fault == "not run" else "counted as failed edits"
            said.append(
                f"{method}: {len(where)} pictures {fault}, {rule}: {', '.join(where[:3])}{more}"
            )
    everything = {i for s in found.values() for i in s.items}
    for method, sweep in found.items():
        lost = sorted(everything - set(sweep.items))
        if lost:
            said.append(
                f"{method}: {len(lost)} of {len(everything)} items were not run:"
                f" {', '.join(lost[:3])}{' ...' if len(lost) > 3 else ''}"
            )
    return said


def cell_text(interval: Interval, digits: int) -> str:
    """ "0.620 [0.51, 0.72]", or "-" where nothing is defined."""
    if not np.isfinite(interval.estimate):
        return "-"
    if not np.isfinite(interval.low) or interval.low == interval.high:
        return f"{interval.estimate:.{digits}f}"
    return says(interval, digits)


Grid = tuple[list[str], list[list[str]]]


def edited(r: Results) -> list[str]:
    """The methods that drew pictures of their own."""
    return [m for m in r.found if not m.startswith(PREFIX) and m not in tables.CHOSEN]


def grid(lines: Sequence[Line], columns: Sequence[Column]) -> Grid:
    """A table as text: (head, body). Besides a method stands what it was given besides picture and
    target text."""
    head = ["method", "given besides", "strength", "n", *(c.title for c in columns), "broken"]
    body = []
    for row in lines:
        strength = "" if row.strength is None else f"{row.strength:g}"
        broken = str(row.faults) + (f" (+{row.missing} missing)" if row.missing else "")
        cells = []
        for c in columns:
            of = f" (n={row.sources - row.left_out[c.key]})" if c.key in row.left_out else ""
            text = cell_text(row.cells[c.key], c.digits)
            cells.append(text if text == "-" else text + of)
        besides = ", ".join(given_to(row.method))
        body.append([row.method, besides, strength, str(row.sources), *cells, broken])
    return head, body


def grids(r: Results) -> dict[str, Grid]:
    """All tables as text, by title."""
    pixel_columns = [
        c
        for c in (*tables.PIXEL_COLUMNS, *tables.LEARNED_COLUMNS)
        if r.pixels and c.key in r.pixels[0].cells
    ]
    found = {
        "What the reader says": grid(r.factors, tables.FACTOR_COLUMNS),
        "What the pixels say": grid(r.pixels, pixel_columns),
        "Cost": grid(r.costs, tables.COST_COLUMNS),
    }
    methods = [m for m in r.found if not m.startswith(PREFIX)]
    if r.realism:
        found["Realism: KID to the ideal edits, in flatland-clip's features (first seeds)"] = (
            ["method", "KID x 1000", "standard error x 1000", "n"],
            [
                [m, f"{1000 * x.kid:.1f}", f"{1000 * x.error:.1f}", str(x.pictures)]
                for m, x in r.realism.items()
            ],
        )
    if r.back:
        found["Edited back, against the source"] = grid(r.back, tables.BACK_COLUMNS)
    if r.kinds:
        found["JOINT by kind of edit"] = (
            ["", *methods],
            [
                [k, *(cell_text(row.get(m, statistics.NOTHING), 3) for m in methods)]
                for k, row in r.kinds.items()
            ],
        )
    if r.comparisons:
        found["Imagic against the others, JOINT"] = (
            ["other", "difference", "p (sign flips)", "p (Holm)", "P(Imagic better) + P(tie) / 2"],
            [
                [
                    m,
                    cell_text(c.difference, 3),
                    f"{c.p:.4f}",
                    f"{p:.4f}",
                    cell_text(c.superiority, 3),
                ]
                for m, (c, p) in r.comparisons.items()
            ],
        )
    names = list(dict.fromkeys(n for s in r.summaries.values() for n in s))
    if r.gains:
        apart = tables.AUTO in r.found and r.part == "test"
        how = "chosen on validation" if apart else "each picture's chosen on the others"
        found[f"Eta by score against one eta, {how}"] = (
            ["score", "eta by score", "one eta", "difference"],
            [[name, *(cell_text(i, 3) for i in gain)] for name, gain in r.gains.items()],
        )
    if names:
        of = "" if r.swept_part == r.part else f", {r.swept_part} items"
        found[f"Whole sweeps{of}"] = (
            ["method", *names],
            [
                [m, *(cell_text(s.get(n, statistics.NOTHING), 3) for n in names)]
                for m, s in r.summaries.items()
            ],
        )
    found["The paper's findings"] = (
        ["check", "claim", "answer", "numbers"],
        [list(a) for a in r.answers],
    )
    return found


def markdown(r: Results, notes: Sequence[str]) -> str:
    """All tables as Markdown."""
    parts = [f"# Flatland, {r.part} items\n", *(f"* {n}" for n in (*notes, *r.notes, *r.problems))]
    for title, (head, body) in grids(r).items():
        parts += [f"\n## {title}\n", _line(head), "|---" * len(head) + "|", *map(_line, body)]
    return "\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(c.replace("|", "/") for c in cells) + " |"


def as_json(r: Results) -> dict[str, Any]:
    """The numbers of all tables."""

    def of_lines(lines: Sequence[Line]) -> list[dict[str, Any]]:
        return [
            {**row._asdict(), "cells": {k: v._asdict() for k, v in row.cells.items()}}
            for row in lines
        ]

    return plain(
        {
            "part": r.part,
            "chosen": r.chosen,
            "factors": of_lines(r.factors),
            "pixels": of_lines(r.pixels),
            "costs": of_lines(r.costs),
            "back": of_lines(r.back),
            "kinds": {k: {m: i._asdict() for m, i in v.items()} for k, v in r.kinds.items()},
            "comparisons": {
                m: {
                    "difference": c.difference._asdict(),
                    "superiority": c.superiority._asdict(),
                    "p": c.p,
                    "p_holm": p,
                }
                for m, (c, p) in r.comparisons.items()
            },
            "summaries": {
                m: {n: i._asdict() for n, i in s.items()} for m, s in r.summaries.items()
            },
            "realism": {m: x._asdict() for m, x in r.realism.items()},
            "swept_part": r.swept_part,
            "gains": {
                name: {k: i._asdict() for k, i in gain._asdict().items()}
                for name, gain in r.gains.items()
            },
            "checks": [a._asdict() for a in r.answers],
            "problems": r.problems,
        }
    )


def write(r: Results, notes: Sequence[str], out: Path) -> str:
    """Writes tables.json and tables.md; returns the latter."""
    output.write_text(out / "tables.json", json.dumps(as_json(r), indent=1) + "\n")
    text = markdown(r, notes)
    output.write_text(out / "tables.md", text)
    return text
