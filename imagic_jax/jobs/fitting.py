"""Running the loops of a fit with progress, checkpoints and interruption."""

import functools
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import Fit, StageFit
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime, timed
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.checkpoint import Checkpoints, SaveTimer
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.loop import Chunk, LoopState
from imagic_jax.runtime.paths import AnyPath
from imagic_jax.runtime.progress import Reporter
from imagic_jax.typing import Image, Params


def run_fit(
    cascade: Cascade,
    params: Params,
    image: Image,
    target: Sequence[Cond],
    null: Sequence[Cond],
    settings: EditSettings,
    folder: AnyPath,
    ahead: Ahead,
    reporter: Reporter,
    stop: StopFlag,
) -> tuple[Fit, list[StageTime]]:
    """`imagic.fit`, going on from whatever checkpoints `folder` holds.

    `ahead` compiles the programs that `imagic.programs` names.

    Raises:
        Interrupted: a stop was asked for; the state is saved.
        loop.NonFiniteLoss: the optimisation diverged.
    """
    key = jax.random.key(settings.seed)
    times: list[StageTime] = []

    def loop(program: str, title: str, start: LoopState, total: int, run: Callable) -> LoopState:
        spent = StageTime(title)
        times.append(spent)
        with Checkpoints(folder / program.replace(" ", "_")) as saved:
            state = start
            if (found := saved.restore_newest(start.value)) is not None:
                state = LoopState(*found)
            watch = _Watch(title, total, state.step, saved, reporter, stop, spent)
            with timed(spent):
                watch.compile(ahead, program)
                state = run(state=state, on_chunk=watch)
            watch.save(state)
        return state

    fits = []
    for i, stage in enumerate(cascade.stages):
        p = params["stages"][i]
        picture = imagic.picture_for(stage, p, image)
        cond, e_opt, delta = target[i], None, None
        if i == 0:
            config = settings.embedding
            part_key = imagic.stage_key(key, "embed", i)
            run = functools.partial(imagic.embed, stage, p, picture, cond, config, part_key)
            start = imagic.start_embedding(cond)
            state = loop("embed", "embedding", start, config.steps, run)
            cond = e_opt = imagic.optimised(cond, state)
        config = settings.tuning[i]
        if config is not None and config.steps:
            part_key = imagic.stage_key(key, "tune", i)
            run = functools.partial(imagic.tune, stage, p, picture, cond, null[i], config, part_key)
            start = imagic.start_tuning(p, config, imagic.lora_key(part_key))
            state = loop(f"tune {stage.name}", f"tuning {stage.name}", start, config.steps, run)
            delta = state.value["trainable"]
        fits.append(StageFit(target[i], e_opt, delta))
    return Fit(tuple(fits), tuple(null)), times


class _Watch:
    """The per-chunk callback: shows progress, saves now and then, stops when asked."""

    def __init__(
        self,
        title: str,
        total: int,
        done: int,
        saved: Checkpoints,
        reporter: Reporter,
        stop: StopFlag,
        times: StageTime,
    ):
        self._progress = reporter.stage(title, total, done)
        self._saved, self._stop, self._times = saved, stop, times
        self._timer = SaveTimer()
        self._saved_step = saved.latest_step()
        self._title, self._total = title, total

    def __call__(self, chunk: Chunk) -> None:
        steps = len(chunk.losses)
        self._times.steps += steps
        self._times.losses += [float(v) for v in chunk.losses]
        loss = float(np.mean(self._times.losses[-50:]))
        self._progress.update(chunk.state.step, steps, chunk.seconds, loss)
        if self._stop and chunk.state.step < self._total:
            self.save(chunk.state)
            raise Interrupted(
                f"stopped at step {chunk.state.step} of {self._total} of {self._title}"
            )
        if self._timer.due(chunk.state.step):
            self.save(chunk.state)

    def compile(self, ahead: Ahead, program: str) -> None:
        """Waits for the loop's program."""
        began = time.perf_counter()
        ready = ahead.wait(program, lambda: bool(self._stop))
        self._times.compile_s += time.perf_counter() - began
        if not ready:
            raise Interrupted(f"stopped while {self._title} was being compiled")

    def save(self, state: LoopState) -> None:
        """Saves unless this step is saved already."""
        began = time.monotonic()
        if state.step and self._saved_step != state.step:
            self._saved.save(state.step, state.value)
            self._saved_step = state.step
        self._timer.saved(state.step, time.monotonic() - began)
