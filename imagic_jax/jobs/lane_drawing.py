"""Drawing many fits of Imagic at once, a lane per picture, with progress."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.backbones.generate import Sampling
from imagic_jax.backbones.generate_lanes import Request, generate_lanes
from imagic_jax.editors import imagic
from imagic_jax.jobs.imagic_work import drawn_etas
from imagic_jax.jobs.rendering import RenderJob
from imagic_jax.jobs.timing import StageTime, timed
from imagic_jax.runtime import lanes
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.progress import Reporter
from imagic_jax.typing import Params


class Drawn(NamedTuple):
    """What was drawn for one job, and the time that it took."""

    pictures: Float[np.ndarray, "e s h w 3"]  # in [-1, 1], by `imagic_work.drawn_etas` and seed
    spent: StageTime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Easel:
    """A model on its devices, to draw with.

    Attributes:
        cascade: the model.
        meshes: where each stage works.
        params: parameters per stage, placed on its mesh.
        sampling: steps, guidance, size of a micro-batch.
    """

    cascade: Cascade
    meshes: Sequence[Mesh]
    params: Sequence[Params]
    sampling: Sampling


def draw_group(
    easel: Easel,
    group: Sequence[RenderJob | None],
    ahead: Ahead,
    reporter: Reporter,
    stop: StopFlag,
) -> list[Drawn | None]:
    """Draws every job of a group, one per lane; None leaves a lane idle.

    Raises:
        Interrupted: stopped on request.
    """
    cascade, batch = easel.cascade, easel.sampling.batch
    requests = [None if job is None else _request(job) for job in group]
    batches = max(math.ceil(len(r.seeds) / batch) for r in requests if r is not None)
    spent = StageTime("rendering")
    progress = reporter.stage("rendering", batches * len(cascade.stages))

    def before_stage(name: str) -> None:
        asked = time.perf_counter()
        if not ahead.wait(f"draw {name}", lambda: bool(stop)):
            raise Interrupted("stopped while the rendering was being compiled")
        spent.compile_s += time.perf_counter() - asked

    def on_batch(done: int, total: int) -> None:
        spent.steps += 1
        progress.advance(done)
        if stop and done < total:
            raise Interrupted(f"stopped after {done} of {total} batches of rendering")

    with timed(spent):
        drawn = generate_lanes(
            cascade,
            easel.meshes,
            easel.params,
            [_deltas(easel, group, i) for i in range(len(cascade.stages))],
            requests,
            easel.sampling,
            before_stage=before_stage,
            on_batch=on_batch,
        )
    return [
        None if job is None or flat is None else Drawn(_by_eta(job, flat), spent)
        for job, flat in zip(group, drawn, strict=True)
    ]


def _by_eta(job: RenderJob, flat: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "e s h w 3"]:
    settings = job.work.settings
    return flat.reshape(len(drawn_etas(settings)), len(settings.seeds), *flat.shape[1:])


def _request(job: RenderJob) -> Request:
    etas, seeds = drawn_etas(job.work.settings), job.work.settings.seeds
    conds = imagic.conds_to_draw(job.fit, etas, seeds)
    source = job.square[None] if job.work.settings.sampling.from_picture else None
    return Request(conds, job.away or job.fit.null, [s for _ in etas for s in seeds], source)


def _deltas(easel: Easel, group: Sequence[RenderJob | None], i: int) -> Any:
    """What was tuned of stage `i` in each lane, stacked; None where nothing was."""
    deltas = [job.fit.stages[i].delta if job is not None else None for job in group]
    filler = next((d for d in deltas if d is not None), None)
    if filler is None:
        return None
    return lanes.stack([d or filler for d in deltas], easel.meshes[i], divide=True)
