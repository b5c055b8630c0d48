"""Compiling an edit's parts for a TPU that is not there: does it fit, and what does it cost?

Sizes are those of libtpu's compiled programs. Times are estimates: a roofline over what XLA counts
(the larger of FLOPs at the chip's peak and bytes at its memory's bandwidth), which real runs stay
above as far as work does not overlap, and below where XLA counts bytes that never leave the chip.
Each program takes minutes to compile, so every part is written down as soon as it is done.
"""

import dataclasses
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, SingleDeviceSharding

from imagic_jax.backbones.registry import Opened
from imagic_jax.errors import UserError
from imagic_jax.jobs import output, parts
from imagic_jax.jobs.parts import Part, Place
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.stopwatch import TEXT
from imagic_jax.runtime import devices, topology
from imagic_jax.runtime.costs import Cost, cost_of, loops, roofline
from imagic_jax.runtime.devices import Chip
from imagic_jax.runtime.mesh import weight_spec
from imagic_jax.runtime.progress import Reporter

FORMAT = 2
_STEPPING = ("embed", "tune", "sample")  # parts whose program is a loop over steps
_GIB = 2**30
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}


class Target(NamedTuple):
    """What to compile for.

    Attributes:
        slice: like "v4:2x2x1".
        fsdp: chips over which weights and optimizer are spread; 1 keeps all on one.
        effort: from -1 to 1, how hard XLA tries; None leaves it to XLA.
    """

    slice: str
    fsdp: int = 1
    effort: float | None = None

    def options(self) -> dict[str, Any]:
        """For `jax.stages.Lowered.compile`."""
        return {} if self.effort is None else {"exec_time_optimization_effort": self.effort}


def compile_parts(
    opened: Opened,
    settings: EditSettings,
    preset: str,
    target: Target,
    wanted: Sequence[str],
    file: Path | None,
    reporter: Reporter,
) -> dict[str, Any]:
    """Compiles parts of an edit; returns what the JSON file holds.

    Args:
        opened: the model; its weights are never read.
        settings: of the edit.
        preset: its name, for the file.
        target: the chips.
        wanted: parts by kind or in full; empty for all.
        file: written after each part; what it holds of the same job is kept.
        reporter: for progress.

    Raises:
        UserError: no such slice, no compiler for it, or `file` holds another job.
    """
    chips = topology.devices_of(target.slice)
    chip = devices.chip_of(chips[0].device_kind)
    if chip is None:
        raise UserError(f"--aot: nothing is known of {chips[0].device_kind}")
    todo = parts.parts(opened, settings, TEXT, placing(chips, target.fsdp))
    times = {part.name: part.times for part in todo}
    todo = parts.chosen(todo, wanted) if wanted else todo
    job = {
        "format": FORMAT,
        "preset": preset,
        "model": opened.card["name"],
        "target": target.slice,
        "fsdp": target.fsdp,
        "effort": target.effort,
        "chip": dataclasses.asdict(chip),
        "network": network(opened),
        "settings": json.loads(json.dumps(dataclasses.asdict(settings))),
        "versions": output.versions() | output.versions(("libtpu",)),
    }
    rows = done_before(file, job)
    result: dict[str, Any] = {}
    for part in todo:
        if part.name not in rows:
            reporter.say(f"{part.name}: compiling for {target.slice}")
            rows[part.name] = compiled_row(part, target, chip)
        kept = [rows[p] for p in rows]
        result = {**job, "times": times, "rows": kept, "edit": summed(kept, len(times))}
        if file is not None:
            output.write_json(file, result)
    return result


def network(opened: Opened) -> dict[str, Any]:
    """How the networks are computed and kept, for the file."""
    first: Any = opened.cascade.stages[0]
    return {
        "dtype": jnp.dtype(first.unet.dtype).name,
        "param_dtype": jnp.dtype(opened.param_dtype).name,
        "attention": first.attention,
        "remat": first.unet.remat,
        "scan": first.unet.scan,
    }


def placing(chips: Sequence[Any], fsdp: int) -> Place:
    """Gives shapes the shardings of one chip, or of several with every array divided over them.

    Raises:
        UserError: the slice has fewer chips.
    """
    if fsdp > len(chips):
        raise UserError(f"--fsdp={fsdp}: this slice has {len(chips)} chips")
    if fsdp == 1:
        alone = SingleDeviceSharding(chips[0])
        return lambda tree: _placed(tree, lambda _: alone)
    mesh = Mesh(np.array(chips[:fsdp]), ("fsdp",))
    return lambda tree: _placed(tree, lambda a: NamedSharding(mesh, weight_spec(a.shape, fsdp)))


def _placed(tree: Any, sharding: Callable[[Any], Any]) -> Any:
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding(a)), tree
    )


def compiled_row(part: Part, target: Target, chip: Chip) -> dict[str, Any]:
    """Compiles one part: a row of the table."""
    began = time.perf_counter()
    lowered = part.lower()
    inner = loops(lowered) - (part.kind in _STEPPING)
    lowered_at, used_cpu = time.perf_counter(), time.process_time()
    cost, used, why = None, None, ""
    try:
        cost = cost_of(lowered.compile(compiler_options=target.options()))
        used = cost.memory
    except jax.errors.JaxRuntimeError as error:
        why = str(error)
        if "RESOURCE_EXHAUSTED" not in why:
            raise
        used = used_memory(why)
    return {
        "name": part.name,
        "times": part.times,
        "lower_s": round(lowered_at - began, 1),
        "compile_s": round(time.perf_counter() - lowered_at, 1),
        "compile_cpu_s": round(time.process_time() - used_cpu, 1),  # on a busy machine, the truth
        "fits": cost is not None,
        "why_not": why.splitlines()[0] if why else None,
        "memory_gib": None if used is None else used / _GIB,
        "loops": inner,  # XLA counts one round of each
        **_counts(part, cost, target, chip),
    }


def _counts(part: Part, cost: Cost | None, target: Target, chip: Chip) -> dict[str, Any]:
    floors = {
        "flops": part.flops,
        "compute_floor_s": part.flops / target.fsdp / chip.peak,
        "traffic_floor_s": part.traffic / target.fsdp / chip.bandwidth,
    }
    if cost is None:
        keys = ("arguments_gib", "temporaries_gib", "flops_xla", "accessed", "roofline_s")
        return floors | dict.fromkeys(keys)
    return floors | {
        "arguments_gib": cost.arguments / _GIB,
        "temporaries_gib": cost.temporaries / _GIB,
        "flops_xla": cost.flops,
        "accessed": cost.accessed,
        "roofline_s": roofline(cost, chip, part.flops / target.fsdp),
    }


def used_memory(message: str) -> int | None:
    """Bytes that XLA says a program that does not fit would use: "Used 33.1G of 31.2G hbm"; or its
    temporaries alone, where those are too many already."""
    match = re.search(r"Used ([\d.]+)([KMG]?) of [\d.]+[KMG]? hbm", message)
    match = match or re.search(r"HLO temporaries \(([\d.]+)([KMG]?)\)", message)
    return int(float(match[1]) * _UNITS[match[2]]) if match else None


def summed(rows: Sequence[dict[str, Any]], every: int) -> dict[str, Any] | None:
    """Seconds of a whole edit, where all its parts are there and fit.

    A program that samples also decodes: what decoding costs alone is taken out of it. "apart_s" is
    "fit_s" where every stage of a cascade has a chip of its own, as in the paper.
    """
    if len(rows) < every or not all(r["fits"] for r in rows):
        return None
    decoding = {r["name"].split()[1]: r["roofline_s"] for r in rows if r["name"][:6] == "decode"}

    def once(r: dict[str, Any]) -> float:
        kind, _, stage = r["name"].partition(" ")
        return r["roofline_s"] - (decoding.get(stage, 0.0) if kind == "sample" else 0.0)

    def total(*kinds: str) -> float:
        return sum(r["times"] * once(r) for r in rows if r["name"].split()[0] in kinds)

    floor = sum(r["times"] * (r["compute_floor_s"] + r["traffic_floor_s"]) for r in rows)
    of_others = [r["times"] * once(r) for r in rows if re.match("tune (?!base)", r["name"])]
    fit = total("encode", "embed", "tune")
    return {
        "fit_s": fit,
        "apart_s": max([fit - sum(of_others), *of_others]),
        "render_s": total("sample", "decode"),
        "roofline_s": total(*parts.KINDS),
        "floor_s": floor,
    }


def done_before(file: Path | None, job: dict[str, Any]) -> dict[str, Any]:
    """The rows of the same job in `file`, by name.

    Raises:
        UserError: it holds something else.
    """
    if file is None or not file.exists():
        return {}
    try:
        before = json.loads(file.read_text())
        rows = {r["name"]: r for r in before["rows"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"--json: {file} is there and is no result of this program") from error
    different = output.differences({k: before.get(k) for k in job}, job)
    if different:
        raise UserError(
            f"--json: {file} holds another job (different: {', '.join(different)}); name another"
            " file"
        )
    return rows
