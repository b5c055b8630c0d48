"""How long each part of an edit takes on this machine, and how far that is from what it could do.

Times are those of the loops and programs that `imagic edit` runs. Each part's program is compiled
twice: into an empty cache (cold), and again from that cache (warm).
"""

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any

import jax

from imagic_jax.backbones.registry import Opened
from imagic_jax.jobs import output, parts
from imagic_jax.jobs.parts import Part
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.stopwatch import TEXT, Machine
from imagic_jax.runtime import devices
from imagic_jax.runtime.compilation import empty_cache
from imagic_jax.runtime.costs import Cost
from imagic_jax.runtime.devices import Chip
from imagic_jax.runtime.progress import Reporter

FORMAT = 1
_RATE = 1e-9  # costs what any other does, and keeps random weights finite
_EDIT_LIMIT = 120.0  # seconds: a longer edit is added up, unless it is asked for
_GIB = 2**30


def bench(
    opened: Opened,
    settings: EditSettings,
    wanted: Sequence[str],
    repeats: int,
    reporter: Reporter,
) -> dict[str, Any]:
    """Measures parts of an edit; returns what the JSON file holds.

    Args:
        opened: the model; with random weights its times are real all the same.
        settings: of the edit.
        wanted: parts by kind or in full (`parts.KINDS`), "edit" among them; empty for all.
        repeats: timed calls per part, after those that compile.
        reporter: for progress.

    Raises:
        UserError: `wanted` names what this model does not have.
    """
    settings = _slow(settings)
    todo = parts.parts(opened, settings, TEXT)
    names = [name for name in wanted if name != "edit"]
    every, todo = len(todo), parts.chosen(todo, names) if wanted else todo
    reporter.say("measuring the machine")
    chip = devices.this_chip()
    with empty_cache():
        machine = Machine(opened, settings, repeats)
        rows = []
        for part in todo:
            reporter.say(f"{part.name}: compiling and timing")
            rows.append(row(part, *machine.measure(part), chip))
        summed = sum(r["median_s"] * r["times"] for r in rows)
        whole = None
        if "edit" in wanted or (not wanted and summed * (repeats + 1) < _EDIT_LIMIT):
            reporter.say("the whole edit")
            whole = spread(machine.edits())
    return {
        "format": FORMAT,
        "model": opened.card["name"],
        "random_weights": opened.random,
        "device": describe(chip),
        "versions": output.versions(),
        "settings": dataclasses.asdict(settings),
        "rows": rows,
        "edit": {"parts_s": summed if len(todo) == every else None, "measured": whole},
        "peak_memory_gib": devices.peak_memory() / _GIB,
    }


def _slow(settings: EditSettings) -> EditSettings:
    """The same work at a rate that changes nothing."""

    def at_rest(config: Any) -> Any:
        return config and dataclasses.replace(config, learning_rate=_RATE)

    return dataclasses.replace(
        settings,
        embedding=at_rest(settings.embedding),
        tuning=tuple(at_rest(t) for t in settings.tuning),
    )


def row(
    part: Part, cold: float, warm: float, seconds: Sequence[float], cost: Cost, chip: Chip | None
) -> dict[str, Any]:
    """One row of the table: times, speed, and the floors that no program falls below."""
    median = statistics.median(seconds)
    speed = part.flops / median if median else 0.0
    return {
        "name": part.name,
        "times": part.times,
        "compile_cold_s": cold,
        "compile_warm_s": warm,
        **spread(seconds),
        "per_s": 1 / median if median else None,
        "flops": part.flops,
        "flops_xla": cost.flops,
        "flops_per_s": speed,
        "peak_share": speed / chip.peak if chip else None,
        "compute_floor_s": part.flops / chip.peak if chip else None,
        "traffic_floor_s": part.traffic / chip.bandwidth if chip else None,
        "memory_gib": cost.memory / _GIB,
    }


def spread(seconds: Sequence[float]) -> dict[str, Any]:
    """Median, extremes, and all of them."""
    rounded = [float(f"{s:.6g}") for s in seconds]
    return {
        "median_s": statistics.median(rounded),
        "least_s": min(rounded),
        "most_s": max(rounded),
        "all_s": rounded,
    }


def describe(chip: Chip | None) -> dict[str, Any]:
    """The machine, for the JSON file."""
    first = jax.devices()[0]
    about = None if chip is None else dataclasses.asdict(chip)
    return {"kind": first.device_kind, "count": jax.device_count(), "chip": about}
