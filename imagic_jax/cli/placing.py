"""Flags that say where a job runs and how it is saved: devices, hosts, checkpoints."""

import os
import sys
from typing import Any

from absl import flags

from imagic_jax.errors import UserError


def define_placing(values: flags.FlagValues) -> None:
    """--mesh, --side_by_side, the hosts, --save_every, --resume."""
    text, switch = flags.DEFINE_string, flags.DEFINE_boolean
    text(
        "mesh",
        None,
        "AXES: devices of this process, as image:2,sample:2: image:N edits N pictures at a time,"
        " sample:N divides the noise draws of a picture, fsdp:N its weights and optimizer (default:"
        " one device)",
        flag_values=values,
    )
    switch(
        "side_by_side",
        False,
        "tune base and super-resolution at the same time, each on a mesh of its own",
        flag_values=values,
    )
    text(
        "save_every",
        "",
        "N: steps between checkpoints, or 90s, or 5m (default: 20 s, less often where saving is"
        " slow)",
        flag_values=values,
    )
    text("keep_saves", "2", "N: checkpoints kept of each loop", flag_values=values)
    switch(
        "resume",
        True,
        "go on from checkpoints; --noresume begins the fit anew",
        flag_values=values,
    )
    text(
        "coordinator",
        None,
        "ADDRESS: HOST:PORT of process 0 in a job of several processes; Cloud TPU finds it",
        flag_values=values,
    )
    text("num_processes", None, "N: how many processes the job has", flag_values=values)
    text("process_id", None, "I: which of them this is, from 0", flag_values=values)
    text("connect_timeout", "300", "S: seconds to wait for the other processes", flag_values=values)
    switch("alone", False, "use this worker of a TPU slice without the others", flag_values=values)


def connect(values: flags.FlagValues) -> None:
    """Joins the other processes, if there are any. Before anything else uses JAX.

    Raises:
        UserError: flags that do not belong together, or not all processes came.
    """
    from imagic_jax.jobs import settings
    from imagic_jax.runtime import hosts

    def number(name: str, low: int) -> int | None:
        value = getattr(values, name)
        return None if value is None else settings.whole(value, f"--{name}", low, 10**6)

    if values.alone:
        hosts.alone()
        return

    def give_up(reason: str) -> None:
        print(f"imagic: {reason}", file=sys.stderr, flush=True)
        os._exit(2)  # the main thread waits inside JAX

    timeout = number("connect_timeout", 1) or 300
    count, mine = number("num_processes", 1), number("process_id", 0)
    hosts.connect(values.coordinator, count, mine, timeout, give_up)


def place(values: flags.FlagValues, opened: Any, work: Any) -> Any:
    """The `jobs.workshop.Place` that the flags describe; None where none of them is given.

    Raises:
        UserError: no such axes, too few devices, or ill-valued flags.
    """
    from imagic_jax.jobs.lane_fitting import Saving
    from imagic_jax.jobs.settings import whole
    from imagic_jax.jobs.workshop import Place
    from imagic_jax.runtime.checkpoint import parse_save_every

    steps, seconds = parse_save_every(values.save_every)
    keep = whole(values.keep_saves, "--keep_saves", 1, 1000)
    asked = [n for n in ("mesh", "side_by_side", "save_every") if getattr(values, n)]
    if not asked and keep == 2 and values.resume:
        return None
    if work.name != "imagic":
        names = ", ".join(f"--{n}" for n in asked) or "--keep_saves and --noresume"
        raise UserError(f"{names}: only Imagic has loops to spread and save; leave it out")
    saving = Saving(steps=steps, seconds=seconds, keep=keep, resume=values.resume)
    chosen = Place.chosen(opened, values.mesh, values.side_by_side, work.settings, saving)
    if values.side_by_side and len(set(chosen.meshes)) == 1:
        raise UserError("--side_by_side: this preset tunes one stage alone, or this model has one")
    return chosen
