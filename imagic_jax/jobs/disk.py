"""How much an edit will write, compared with the room there is, before anything is optimised."""

import shutil
from typing import NamedTuple

import jax

from imagic_jax.backbones.registry import Opened
from imagic_jax.editors import imagic
from imagic_jax.errors import UserError
from imagic_jax.jobs.lane_fitting import DEFAULT_SAVING, Saving
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.paths import AnyPath, files_below, is_remote
from imagic_jax.weights.modules import shape_bytes

_GIB = 2**30


class Estimate(NamedTuple):
    """Bytes."""

    checkpoints: int  # of the loops of the pictures that are edited at a time
    fits: int  # of all pictures
    pictures: int

    @property
    def total(self) -> int:
        return sum(self)


def estimate(
    opened: Opened,
    settings: EditSettings,
    saving: Saving,
    pictures: int,
    at_a_time: int,
    keep_checkpoints: bool = False,
) -> Estimate:
    """What editing so many pictures will write at most. Nothing is loaded or computed."""
    states, fit = [0], 0
    for stage, config in zip(opened.stage_shapes(), settings.tuning, strict=True):
        if config is not None and config.steps:
            start = jax.eval_shape(lambda p, c=config: imagic.start_tuning(p, c).value, stage)
            states.append(shape_bytes(start))
            fit += shape_bytes(start["trainable"])
    # What is kept, and one more that is being written; a stage's are there until the next begins.
    kept = sum(states) * saving.keep
    one = kept + max(states)
    loops = kept * pictures + max(states) * at_a_time if keep_checkpoints else one * at_a_time
    drawn = (len(settings.etas) + 2) * len(settings.seeds) * opened.cascade.size**2 * 3
    return Estimate(loops, fit * pictures, 3 * drawn * pictures)


def check(
    out: AnyPath,
    opened: Opened,
    settings: EditSettings,
    pictures: int,
    at_a_time: int = 1,
    saving: Saving = DEFAULT_SAVING,
    keep_checkpoints: bool = False,
) -> None:
    """Refuses a job whose disk would be full before it ends.

    Args:
        out: where it writes, whether it is there yet or not.
        pictures: how many are still to be edited.
        at_a_time: how many of them at once.

    Raises:
        UserError: with the estimate and what to change.
    """
    if is_remote(out):
        return  # a bucket is never full
    if not pictures:
        return
    there = next(p for p in (out.absolute(), *out.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    need = estimate(opened, settings, saving, pictures, min(at_a_time, pictures), keep_checkpoints)
    before = _bytes_below(out, "checkpoints") if pictures == 1 else 0
    if need.total - before <= free:
        return
    raise UserError(
        f"--out: {out} will need up to {need.total / _GIB:.1f} GiB (checkpoints"
        f" {need.checkpoints / _GIB:.1f}, fits {need.fits / _GIB:.1f}) and"
        f" {free / _GIB:.1f} GiB are free there: choose another disk, keep fewer checkpoints"
        " (--keep_saves=1), tune by LoRA (--config.tuning.base.rank=16), or go on all the same"
        " with --nocheck_memory"
    )


def _bytes_below(out: AnyPath, name: str) -> int:
    folder = out / name
    return sum(p.stat().st_size for p in files_below(folder)) if folder.is_dir() else 0
