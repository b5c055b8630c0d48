"""Running the Flatland benchmark (evaluation: 4.7, 5): contenders over items, line by line.

Every contender draws all strengths of its knob on the validation items; the best one there is its
own for good. Then it draws the test items. Each (contender, item) is a unit: its pictures go to a
file, its scores to `rows.jsonl`, one line per strength and seed; a run that was killed goes on with
the units that are not whole.

    OUT/settings.json, manifest.json     what was run
    OUT/pictures/CONTENDER/ITEM.npz      uint8 pictures and what is wrong with any of them
    OUT/rows.jsonl                       scores, from which every table and figure is made
"""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from imagic_jax.errors import UserError
from imagic_jax.evaluation import anchors, extras, manifest, rows
from imagic_jax.evaluation.contenders import TEXT_ONLY, Contender, Outcome
from imagic_jax.evaluation.costs import Cost
from imagic_jax.evaluation.extras import Extra
from imagic_jax.evaluation.items import Item, Part, Split, hashed, items
from imagic_jax.evaluation.scoring import (
    SCORES_ID,
    Gates,
    about,
    judge,
    score_checked,
)
from imagic_jax.evaluation.tables import chosen_strengths, sweeps
from imagic_jax.evaluation.units import Unit, Units, pictures_file, save_pictures, whole_units
from imagic_jax.flatland import free_reader
from imagic_jax.flatland.free_reader import FreeReading
from imagic_jax.flatland.reader import SIZE, Reading
from imagic_jax.jobs import output
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.loop import NonFiniteLoss
from imagic_jax.runtime.progress import Reporter

PARTS: tuple[Part, ...] = ("validation", "test")


class Tier(NamedTuple):
    """How much is measured."""

    test: int  # items of `iid`; other splits have a quarter
    validation: int
    seeds: int  # per test item
    validation_seeds: int


ROWS = "rows.jsonl"
BACK, BACK_PART = " and back", "back"  # what was edited twice
NO_COST = Cost(0.0, 0.0, 0.0, 0, 0, 0.0, 0.0)
TIERS = {
    "smoke": Tier(8, 4, 1, 1),
    "dev": Tier(100, 40, 4, 2),
    "full": Tier(400, 100, 4, 2),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What is run.

    Attributes:
        items: of both parts.
        reported: the part that tables are about; validation alone is run for its own tables.
        seeds: how many per item, by part.
        gates: of valid outputs.
        marks: whether what the model draws from text may carry identity marks.
        sweep_test: draw every strength on test items too (curves, windows), not the chosen alone.
        stamp: what every row says of the run: package version, hash of the settings.
        choose_eta: score Imagic's pictures as `--eta=auto` would.
        back: how many items are also edited back (none by default: it doubles their cost).
        for_checks: contenders that are there for the checks C1-C6 alone: they draw every strength
            on the first `check_items` validation items (by the hashes of their names) and nothing
            else.
        check_items: see `for_checks`.
    """

    items: dict[Part, list[Item]]
    reported: Part
    seeds: dict[Part, int]
    gates: Gates
    sweep_test: bool
    stamp: dict[str, Any]
    marks: bool = False
    choose_eta: bool = True
    back: int = 0
    for_checks: tuple[str, ...] = ()
    check_items: int = 0

    def items_of(self, contender: str, part: Part) -> list[Item]:
        """The items of a part that a contender edits."""
        if contender not in self.for_checks:
            return self.items[part]
        return hashed(self.items[part])[: self.check_items] if part == "validation" else []

    def sweeps(self, part: Part) -> bool:
        """Whether every strength is drawn."""
        return part == "validation" or self.sweep_test

    @functools.cached_property
    def extras(self) -> list[Extra]:
        """Scores of all pictures besides the reader's."""
        learned = extras.open_learned()
        return [] if learned is None else [learned]

    @functools.cached_property
    def auto(self) -> Extra:
        """Scores of Imagic's pictures, on items where there is something to choose from."""
        return extras.auto_scores([i for p in PARTS if self.sweeps(p) for i in self.items[p]])


def plan_items(
    tier: Tier, splits: Sequence[Split], edits: Sequence[str] | None = None
) -> dict[Part, list[Item]]:
    """Validation items are all of `iid`; test items are those of every split asked for. `edits` as
    in `items.items`."""
    test = [
        item
        for split in splits
        for item in items(
            "test", tier.test if split == "iid" else max(1, tier.test // 4), split, edits
        )
    ]
    return {"validation": items("validation", tier.validation, edits=edits), "test": test}


def open_items(
    out: Path, tier: Tier, splits: Sequence[Split], edits: Sequence[str] | None = None
) -> tuple[dict[Part, list[Item]], list[str]]:
    """The items of a result folder, and notes about them; drawn and listed there the first time.

    Raises:
        UserError: the folder's manifest cannot be read.
    """
    path = out / "manifest.json"
    if not path.is_file():
        chosen = plan_items(tier, splits, edits)
        listed = {part: manifest.manifest(some) for part, some in chosen.items()}
        output.write_text(path, json.dumps(listed, indent=1) + "\n")
        return chosen, []
    try:
        listed = json.loads(path.read_text())
        chosen: dict[Part, list[Item]] = {part: manifest.read(listed[part]) for part in PARTS}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is no manifest of Flatland items ({error}); remove it") from error
    first = [*listed["validation"][:2], *listed["test"][:2]]
    other = manifest.drawn_otherwise(first)
    notes = [f"this machine draws {', '.join(other)} otherwise than the manifest says"]
    return chosen, notes if other else []


def run(
    plan: Plan, contenders: Sequence[Contender], out: Path, reporter: Reporter, stop: StopFlag
) -> list[dict[str, Any]]:
    """Draws and scores what `out` does not hold yet; returns all rows.

    Raises:
        Interrupted: stopped on request; the units so far are in `out`.
    """
    path = out / ROWS
    kept = whole_units(rows.read(path))
    rows.write(path, (r for unit in kept.values() for r in unit))
    _anchors(plan, kept, path, reporter, stop)
    parts: tuple[Part, ...] = ("validation",) if plan.reported == "validation" else PARTS
    for contender in contenders:
        for part in parts:
            _one_part(plan, contender, part, kept, out, reporter, stop)
        _edit_back(plan, contender, kept, out, reporter, stop)
    return [r for unit in kept.values() for r in unit]


def _add(path: Path, kept: Units, unit: list[dict[str, Any]]) -> None:
    for row in unit:
        row["unit_rows"] = len(unit)
        rows.append(path, row)
    kept[unit[0]["method"], unit[0]["item"]] = [rows.plain(r) for r in unit]


def _anchors(plan: Plan, kept: Units, path: Path, reporter: Reporter, stop: StopFlag) -> None:
    todo = [
        i
        for i in plan.items[plan.reported]
        if (anchors.PREFIX + anchors.TEXT_ONLY, i.name) not in kept
    ]
    progress = reporter.stage("anchors", len(todo)) if todo else None
    for done, item in enumerate(todo, 1):
        _check(stop)
        for name, score in anchors.scores(item, plan.gates).items():
            if (anchors.PREFIX + name, item.name) in kept:
                continue
            where = {
                "method": anchors.PREFIX + name,
                "part": plan.reported,
                "strength": None,
                "seed": 0,
            }
            row = {**about(item, **where), **score, "fault": "", "scores": SCORES_ID}
            _add(path, kept, [{**row, **plan.stamp}])
        if progress:
            progress.advance(done)


def _check(stop: StopFlag) -> None:
    if stop:
        raise Interrupted("stopped; the same command goes on with the items that are left")


def _one_part(
    plan: Plan,
    contender: Contender,
    part: Part,
    kept: Units,
    out: Path,
    reporter: Reporter,
    stop: StopFlag,
) -> None:
    if part != plan.reported and len(contender.strengths) == 1:
        return  # nothing to choose
    chosen = plan.items_of(contender.name, part)
    todo = [i for i in chosen if (contender.name, i.name) not in kept]
    if not todo:
        return
    strengths = contender.strengths
    if not plan.sweeps(part):
        strengths = (strengths[choice(contender.name, kept)],)
    before = len(chosen) - len(todo)
    progress = reporter.stage(f"{contender.name}, {part}", len(chosen), before)
    free = contender.name == TEXT_ONLY
    for done, item in enumerate(todo, before + 1):
        _check(stop)
        seeds = item.seeds(plan.seeds[part])
        _draw(contender, item, seeds, strengths, pictures_file(out, contender.name, item), reporter)
        if not free:
            _add_scores(plan, contender.name, part, [item], kept, out)
        progress.advance(done)
    if free:  # reading freely pays for many pictures together
        _add_scores(plan, contender.name, part, todo, kept, out)


def _draw(
    contender: Contender,
    item: Item,
    seeds: Sequence[int],
    strengths: Sequence[float],
    path: Path,
    reporter: Reporter,
) -> None:
    """Draws and keeps a unit; one that diverged is named and counts as failed."""
    try:
        outcome, fault = contender.run(item, seeds, strengths), ""
    except NonFiniteLoss as error:
        reporter.warn(f"{contender.name}, {item.name}: {error}")
        outcome, fault = Outcome(np.empty((0, 0, SIZE, SIZE, 3)), NO_COST), "diverged"
    save_pictures(path, outcome, strengths, seeds, fault)


def _edit_back(
    plan: Plan, contender: Contender, kept: Units, out: Path, reporter: Reporter, stop: StopFlag
) -> None:
    """Reversibility (evaluation: 4.6, metric 11): results of the chosen strength, edited again
    under a text that is true of the source, against the source.

    Scored as an item that asks for no edit: what is right is the source itself.
    """
    if "mask" in contender.given or contender.name in plan.for_checks or not plan.back:
        return
    name, part = f"{contender.name}{BACK}", plan.reported
    chosen = hashed(plan.items[part])[: plan.back]
    todo = [i for i in chosen if (name, i.name) not in kept]
    progress = reporter.stage(name, len(todo)) if todo else None
    at = choice(contender.name, kept)
    for done, item in enumerate(todo, 1):
        _check(stop)
        unit = Unit.read(pictures_file(out, contender.name, item))
        strength = contender.strengths[at]
        picture, fault = unit.at(strength)
        back = item._replace(
            split="null",
            text=item.source_text,
            source_text=item.text,
            ideals=(item.source,),
            given=picture,
        )
        path = pictures_file(out, name, item)
        if fault:
            nothing = Outcome(np.empty((0, 0, SIZE, SIZE, 3)), NO_COST)
            save_pictures(path, nothing, (strength,), item.seeds(1), f"first edit: {fault}")
        else:
            _draw(contender, back, item.seeds(1), (strength,), path, reporter)
        found = unit_rows(plan, name, part, back, Unit.read(path))
        for row in found:
            row["part"], row["split"] = BACK_PART, item.split
        _add(out / ROWS, kept, found)
        if progress:
            progress.advance(done)


def _add_scores(
    plan: Plan,
    method: str,
    part: Part,
    todo: Sequence[Item],
    kept: Units,
    out: Path,
    name: str = ROWS,
) -> None:
    """Scores the saved pictures of some units and appends their rows."""
    units = [Unit.read(pictures_file(out, method, item)) for item in todo]
    free = freely(units, plan.marks) if method == TEXT_ONLY else [None] * len(units)
    for item, unit, readings in zip(todo, units, free, strict=True):
        _add(out / name, kept, unit_rows(plan, method, part, item, unit, readings))


def freely(units: Sequence["Unit"], marks: bool) -> list[list[FreeReading | None]]:
    """What the pictures of units show, read without their nuisance; None for what is none."""
    flat = [p for u in units for p, fault in u.each() if not fault]
    small = np.stack(flat).reshape(-1, 32, 2, 32, 2, 3).mean(axis=(2, 4)) if flat else None
    found = iter(free_reader.read_free(small, marks=marks) if small is not None else [])
    return [[None if fault else next(found) for _, fault in u.each()] for u in units]


def unit_rows(
    plan: Plan,
    method: str,
    part: Part,
    item: Item,
    unit: Unit,
    free: Sequence[FreeReading | None] | None = None,
) -> list[dict[str, Any]]:
    """Scores a unit: one row per strength and seed; `free` are its pictures read freely."""
    whole = list(unit.each())
    scores = score_checked(item, [None if fault else p for p, fault in whole], plan.gates)
    _add_extras(plan, method, part, item, whole, scores)
    found = []
    for i, (e, s) in enumerate(np.ndindex(*unit.faults.shape)):
        where = {"method": method, "part": part, "strength": float(unit.strengths[e]), "seed": s}
        row = {**about(item, **where, noise_seed=int(unit.seeds[s])), **scores[i]}
        row["fault"] = whole[i][1]
        if free is not None and (seen := free[i]) is not None:
            reading = Reading(seen.factors, (0, 0), 0.0, seen.residual)
            told = judge(item, reading, row["identity"], float("nan"), plan.gates)
            row |= {**told._asdict(), "undecided": row["undecided"]}
        found.append({**row, **unit.cost._asdict(), "scores": SCORES_ID, **plan.stamp})
    return found


def _add_extras(
    plan: Plan,
    method: str,
    part: Part,
    item: Item,
    whole: Sequence[tuple[np.ndarray, str]],
    scores: Sequence[dict[str, Any]],
) -> None:
    """Puts the extra columns into the scores of pictures that are whole."""
    good = [i for i, (_, fault) in enumerate(whole) if not fault]
    wanted = list(plan.extras)
    if method == "imagic" and plan.choose_eta and plan.sweeps(part):
        wanted.append(plan.auto)
    for extra in wanted if good else []:
        columns = extra(item, np.stack([whole[i][0] for i in good]))
        for name, values in columns.items():
            for i, value in zip(good, values, strict=True):
                scores[i][name] = float(value)


def rescore(plan: Plan, out: Path, reporter: Reporter, stop: StopFlag) -> list[dict[str, Any]]:
    """Scores all saved pictures anew, without any model; what was edited back is not kept.

    Raises:
        UserError: no pictures are there at all, or a file is broken.
    """
    new: str = "rows.new.jsonl"
    kept: Units = {}
    folders = sorted((out / "pictures").iterdir()) if (out / "pictures").is_dir() else []
    names = [p.name for p in folders if not p.name.endswith(BACK)]
    told = [str(r.get("method")) for r in rows.read(out / ROWS)]
    order = {name: i for i, name in enumerate(dict.fromkeys(told))}
    names.sort(key=lambda n: order.get(n, len(order)))  # as the tables had them
    units: dict[tuple[str, Part], list[Item]] = {
        (name, part): [i for i in chosen if pictures_file(out, name, i).is_file()]
        for name in names
        for part, chosen in plan.items.items()
    }
    count = sum(map(len, units.values()))
    if not count:
        raise UserError(f"--score_only: there are no pictures in {out / 'pictures'}")
    rows.write(out / new, [])
    _anchors(plan, kept, out / new, reporter, stop)
    progress = reporter.stage("scoring", count)
    done = 0
    for (name, part), chosen in units.items():
        if not chosen:
            continue
        for some in [chosen] if name == TEXT_ONLY else [[i] for i in chosen]:
            _check(stop)
            _add_scores(plan, name, part, some, kept, out, new)
            done += len(some)
            progress.advance(done)
    (out / new).replace(out / ROWS)
    return [r for unit in kept.values() for r in unit]


def choice(method: str, units: Units) -> int:
    """The strength (its index) that is best on validation by joint success."""
    own = [r for (name, _), unit in units.items() if name == method for r in unit]
    found = sweeps(own, "validation")
    if not found:
        return 0
    return found[method].strengths.index(chosen_strengths(found, found)[method])
