"""How much memory an edit needs, said before anything is loaded."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import jax
from jax.sharding import Mesh

from imagic_jax.backbones.registry import Opened
from imagic_jax.editors import imagic
from imagic_jax.errors import UserError
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.weights.modules import shape_bytes

_GIB = 2**30


class Estimate(NamedTuple):
    """Bytes; activations are left out, so an edit needs more than this."""

    text: int  # the text towers, alone in memory while texts are encoded
    model: int  # all stages
    tuning: int  # the trained values, their gradients and Adam's two moments, of the largest stage

    @property
    def peak(self) -> int:
        """The larger of encoding texts and tuning."""
        return max(self.text, self.model + self.tuning)


def estimate(opened: Opened, settings: EditSettings) -> Estimate:
    """What an edit needs at least. Nothing is loaded or computed."""
    shapes = opened.stage_shapes()
    trained = [0]
    for stage, config in zip(shapes, settings.tuning, strict=True):
        if config is not None and config.steps:
            start = jax.eval_shape(lambda p, c=config: imagic.start_tuning(p, c).value, stage)
            # values and two moments in float32, and as many gradients as values
            trained.append(shape_bytes(start) + shape_bytes(start["trainable"]))
    return Estimate(shape_bytes(opened.text_shapes()), shape_bytes(shapes), max(trained))


def check(opened: Opened, settings: EditSettings, meshes: Sequence[Mesh] = ()) -> None:
    """Refuses an edit that cannot fit into memory, instead of being killed half-way.

    Args:
        opened, settings: the edit.
        meshes: where each stage works (default: one device): `fsdp` divides model and optimizer;
            devices simulated on a CPU share its memory.

    Raises:
        UserError: with the estimate and what to change.
    """
    there = available()
    need = estimate(opened, settings)
    working, device = float(need.model + need.tuning), ""
    if meshes and meshes[0].size > 1:
        working /= meshes[0].shape["fsdp"]
        device = f" on the devices of {dict(meshes[0].shape)}"
        if meshes[0].devices.flat[0].platform == "cpu":
            working *= meshes[0].size
    peak = max(need.text, working)
    if there is None or peak <= there:
        return
    raise UserError(
        f"{opened.card['name']} needs at least {peak / _GIB:.1f} GiB{device} (text encoder"
        f" {need.text / _GIB:.1f}, model {need.model / _GIB:.1f}, tuning {need.tuning / _GIB:.1f},"
        f" activations not counted) and {there / _GIB:.1f} GiB are free: tune by LoRA"
        " (--config.tuning.base.rank=16, then --config.param_dtype=bfloat16 halves the model),"
        " divide the model over devices (--mesh=fsdp:N), take a smaller model, or go on all the"
        " same with --nocheck_memory"
    )


def available() -> int | None:
    """Bytes that are free where arrays go; None where that cannot be told."""
    device = jax.local_devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file)
        return int(rows["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
