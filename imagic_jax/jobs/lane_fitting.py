"""Running the loops of fits with progress, checkpoints and interruption: a lane per picture."""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from imagic_jax.backbones.contracts import Cascade, Cond, Stage
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import Fit, Loop, Picture, StageFit
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime, timed
from imagic_jax.runtime import lanes
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.checkpoint import Checkpoints, SaveTimer
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.lanes import Lanes, LanesChunk
from imagic_jax.runtime.loop import MAX_CHUNK, NonFiniteLoss
from imagic_jax.runtime.paths import AnyPath, remove
from imagic_jax.runtime.progress import Reporter
from imagic_jax.typing import Params

#: What of a loop's data differs from picture to picture; the rest is common.
_OWN = ("picture", "cond", "key")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToFit:
    """A picture to be fitted.

    Attributes:
        square: (1, s, s, 3) in [-1, 1], on the host.
        target: the encoded text per stage, on the host.
        seed: of the fit.
        checkpoints: where its loops are saved.
    """

    square: np.ndarray
    target: Sequence[Cond]
    seed: int
    checkpoints: AnyPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saving:
    """How loops are saved: see `runtime.checkpoint.SaveTimer`. Without `resume` they begin anew."""

    steps: int | None = None
    seconds: float | None = None
    keep: int = 2
    resume: bool = True


DEFAULT_SAVING = Saving()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fitting:
    """What all pictures are fitted with.

    Attributes:
        cascade: the model.
        meshes: where each stage works; stages without a device in common are tuned side by side.
        params: parameters per stage, placed on its mesh.
        null: the encoded empty text per stage.
        settings: steps, rates, draws.
        saving: checkpoints.
    """

    cascade: Cascade
    meshes: Sequence[Mesh]
    params: Sequence[Params]
    null: Sequence[Cond]
    settings: EditSettings
    saving: Saving = DEFAULT_SAVING


class _Stop:
    """A stop flag that another chain's failure raises, too."""

    def __init__(self, flag: StopFlag):
        self._flag, self._other = flag, threading.Event()

    def __bool__(self) -> bool:
        return bool(self._flag) or self._other.is_set()

    def other_failed(self) -> None:
        self._other.set()


@dataclasses.dataclass
class _Run:
    """One group's fit while it runs."""

    what: Fitting
    group: Sequence[ToFit | None]
    ahead: Ahead
    reporter: Reporter
    stop: _Stop
    times: list[list[StageTime]]  # per lane
    failed: dict[int, NonFiniteLoss]

    def busy(self) -> list[int]:
        """The lanes that work."""
        return [i for i, p in enumerate(self.group) if p is not None and i not in self.failed]

    def key(self, part: str, stage: int) -> Any:
        """One key per lane, on the host."""
        return [
            imagic.stage_key(jax.random.key(p.seed if p else 0), part, stage) for p in self.group
        ]


def run_fits(
    what: Fitting,
    group: Sequence[ToFit | None],
    ahead: Ahead,
    reporter: Reporter,
    stop: StopFlag,
) -> list[tuple[Fit, list[StageTime]] | NonFiniteLoss | None]:
    """`imagic.fit` of every picture of a group, each going on from its own checkpoints.

    Args:
        what: the model and how to fit.
        group: one picture per lane; None leaves it idle.
        ahead: compiles `fitting_programs`.

    Returns:
        Per lane the fit, on the host, and where its time went; or how it diverged.

    Raises:
        Interrupted: a stop was asked for; the states are saved.
        NoRoom: a checkpoint cannot be written.
    """
    run = _Run(what, group, ahead, reporter, _Stop(stop), [[] for _ in group], {})
    chains = [functools.partial(_fit_stage, run, i) for i in range(len(what.cascade.stages))]
    parts = _side_by_side(chains, run.stop) if _disjoint(what) else [c() for c in chains]
    found: list[tuple[Fit, list[StageTime]] | NonFiniteLoss | None] = []
    for lane, picture in enumerate(group):
        if picture is None or lane in run.failed:
            found.append(run.failed.get(lane))
            continue
        stages = tuple(
            StageFit(
                picture.target[i],
                None if e_opt is None else lanes.take(e_opt, lane),
                None if delta is None else lanes.take(delta, lane),
            )
            for i, (e_opt, delta) in enumerate(parts)
        )
        times = sorted(run.times[lane], key=lambda t: t.name)  # embedding, tuning base, sr1, ..
        found.append((Fit(stages, tuple(what.null)), times))
    return found


def _disjoint(what: Fitting) -> bool:
    """Whether any tuned stage has devices of its own."""
    first = set(what.meshes[0].devices.flat)
    return any(not first & set(m.devices.flat) for m in what.meshes)


def _side_by_side(chains: Sequence[Callable[[], Any]], stop: _Stop) -> list[Any]:
    """Runs every stage's loops in a thread of its own; the first error stops the others."""

    def guarded(chain: Callable[[], Any]) -> Any:
        try:
            return chain()
        except BaseException:
            stop.other_failed()
            raise

    with ThreadPoolExecutor(len(chains)) as pool:
        futures = [pool.submit(guarded, c) for c in chains]
    errors = [e for e in (f.exception() for f in futures) if e is not None]
    for error in sorted(errors, key=lambda e: isinstance(e, Interrupted)):
        raise error  # what failed, before what was stopped because of it
    return [f.result() for f in futures]


def _fit_stage(run: _Run, i: int) -> tuple[Cond | None, Any]:
    """Stage A on the base, then stage B: (e_opt, what was tuned), stacked; None where not done."""
    what, stage, mesh = run.what, run.what.cascade.stages[i], run.what.meshes[i]
    config = what.settings.tuning[i]
    tuned = config is not None and config.steps > 0
    if (i and not tuned) or not run.busy():
        return None, None
    filled = [p or next(q for q in run.group if q) for p in run.group]
    picture = _pictures(stage, mesh, what.params[i], [p.square for p in filled])
    cond, e_opt, delta = lanes.stack([p.target[i] for p in filled], mesh), None, None
    if i == 0:
        keys = lanes.stack(run.key("embed", i), mesh)
        loop = imagic.embedding_loop(stage, picture, cond, what.settings.embedding, keys)
        states = _run_loop(run, i, "embed", "embedding", loop)
        cond = e_opt = cond._replace(states=states["states"].astype(cond.states.dtype))
    if config is not None and config.steps and run.busy():
        keys = lanes.stack(run.key("tune", i), mesh)
        loop = imagic.tuning_loop(stage, picture, cond, what.null[i], config, keys)
        delta = _run_loop(run, i, f"tune {stage.name}", f"tuning {stage.name}", loop)["trainable"]
    return e_opt, delta


def _pictures(stage: Stage, mesh: Mesh, params: Params, squares: Sequence[np.ndarray]) -> Picture:
    """The pictures as a stage sees them, stacked."""
    images = lanes.stack(squares, mesh)
    return Picture(_prepare(stage, mesh, params, images), images if stage.low_res_size else None)


@functools.partial(jax.jit, static_argnames=("stage", "mesh"))
def _prepare(stage: Stage, mesh: Mesh, params: Params, images: jax.Array) -> jax.Array:
    return lanes.each(stage.prepare, mesh, params, images)


def _common(params: Params, data: dict[str, Any], mesh: Mesh) -> dict[str, Any]:
    rest = {k: v for k, v in data.items() if k not in _OWN}
    return {"params": params, **lanes.share(rest, mesh, divide=False)}


def _run_loop(run: _Run, i: int, program: str, title: str, loop: Loop) -> Any:
    """One loop of every lane from its newest checkpoint to its end: the stacked states."""
    saving, mesh = run.what.saving, run.what.meshes[i]
    common = _common(run.what.params[i], loop.data, mesh)
    own = {k: loop.data[k] for k in _OWN}
    busy = [lane in run.busy() for lane in range(len(run.group))]
    with contextlib.ExitStack() as stack:
        saved = [
            stack.enter_context(Checkpoints(_folder(p, program, saving), saving.keep))
            if p
            else None
            for p in run.group
        ]
        state = _first_or_saved(loop, mesh, common, own, saved)
        watch = _Watch(run, title, loop.steps, state.steps, busy, saved)
        with watch.timed():
            watch.compile(run.ahead, program)
            state, _ = lanes.run(
                loop.step,
                mesh,
                state,
                common,
                own,
                loop.steps,
                busy=busy,
                longest=saving.steps or MAX_CHUNK,
                on_chunk=watch,
            )
        watch.save(state)
    return state.value


def _folder(picture: ToFit, program: str, saving: Saving) -> AnyPath:
    """Where a loop is saved; emptied first where it shall not go on."""
    folder = picture.checkpoints / program.replace(" ", "_")
    if not saving.resume:
        remove(folder)
    return folder


def _first_or_saved(
    loop: Loop, mesh: Mesh, common: Any, own: Any, saved: Sequence[Checkpoints | None]
) -> Lanes:
    """Each lane's newest checkpoint, or the state before its first step."""
    first = functools.partial(lanes.first_states, loop.start, mesh, common, own)
    shapes = jax.eval_shape(first)
    like = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), shapes)
    found = [s.restore_newest(like) if s is not None else None for s in saved]
    if not any(found):
        return Lanes((0,) * len(saved), first())
    rows = [f[1] if f else None for f in found]
    if any(s is not None and f is None for s, f in zip(saved, found, strict=True)):
        begun = first()
        rows = [lanes.take(begun, lane) if r is None else r for lane, r in enumerate(rows)]
    idle = next(r for r in rows if r is not None)
    value = lanes.stack([idle if r is None else r for r in rows], mesh, divide=True)
    return Lanes(tuple(f[0] if f else 0 for f in found), value)


class _Watch:
    """The per-chunk callback: shows progress, saves now and then, stops when asked."""

    def __init__(
        self,
        run: _Run,
        title: str,
        total: int,
        steps: Sequence[int],
        busy: Sequence[bool],
        saved: Sequence[Checkpoints | None],
    ):
        self._run, self._title, self._total = run, title, total
        self._busy, self._saved = list(busy), saved
        self._times = [StageTime(title) for _ in busy]
        for mine, new in zip(run.times, self._times, strict=True):
            mine.append(new)
        self._saved_steps = list(steps)
        self._timer = SaveTimer(run.what.saving.steps, run.what.saving.seconds)
        self._timer.saved(self._least(steps))
        self._progress = run.reporter.stage(title, total, self._least(steps))

    def _least(self, steps: Sequence[int]) -> int:
        """Where the slowest lane stands."""
        return min((s for s, b in zip(steps, self._busy, strict=True) if b), default=self._total)

    def __call__(self, chunk: LanesChunk) -> None:
        self._run.failed.update(chunk.failed)
        most, recent = 0, []
        for lane, losses in enumerate(chunk.losses):
            times = self._times[lane]
            times.steps += len(losses)
            times.losses += [float(v) for v in losses]
            recent += times.losses[-50:]
            most = max(most, len(losses))
        if not most:
            return  # all that worked diverged
        step = self._least(chunk.state.steps)
        self._progress.update(step, most, chunk.seconds, float(np.mean(recent)))
        if self._run.stop and step < self._total:
            self.save(chunk.state)
            raise Interrupted(f"stopped at step {step} of {self._total} of {self._title}")
        if self._timer.due(step):
            self.save(chunk.state)

    def compile(self, ahead: Ahead, program: str) -> None:
        """Waits for the loop's program."""
        began = time.perf_counter()
        ready = ahead.wait(program, lambda: bool(self._run.stop))
        for times in self._times:
            times.compile_s += time.perf_counter() - began
        if not ready:
            raise Interrupted(f"stopped while {self._title} was being compiled")

    def save(self, state: Lanes) -> None:
        """Saves every lane that has gone on since it was saved last."""
        began = time.monotonic()
        for lane, (step, saved) in enumerate(zip(state.steps, self._saved, strict=True)):
            if saved is None or lane in self._run.failed or step == self._saved_steps[lane]:
                continue
            saved.save(step, lanes.take(state.value, lane))
            self._saved_steps[lane] = step
        self._timer.saved(self._least(state.steps), time.monotonic() - began)

    @contextlib.contextmanager
    def timed(self) -> Iterator[None]:
        """Measures the loop's wall time, and how much of it is compilation."""
        spent = StageTime(self._title)
        try:
            with timed(spent):
                yield
        finally:
            for times in self._times:
                times.total_s += spent.total_s
                times.compile_s += spent.compile_s


def lane_fitting_programs(what: Fitting, target: Sequence[Cond]) -> dict[str, Callable[[], Any]]:
    """The compiled programs of `run_fits` in the order of their need, as thunks that lower them:
    "embed" and "tune STAGE". Only the shapes of `target` matter."""
    settings, size = what.settings, what.cascade.size

    def lower(i: int, embedding: bool) -> Any:
        stage, mesh, params = what.cascade.stages[i], what.meshes[i], what.params[i]
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
        x0 = jax.eval_shape(stage.prepare, params, image)
        low_res: Any = image if stage.low_res_size else None
        picture = Picture(x0, low_res)
        key = jax.eval_shape(lambda: jax.random.key(0))
        cond = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), target[i])
        config = settings.tuning[i]
        if embedding:
            loop = imagic.embedding_loop(stage, picture, cond, settings.embedding, key)
        else:
            assert config is not None
            loop = imagic.tuning_loop(stage, picture, cond, what.null[i], config, key)
        rest = {k: v for k, v in loop.data.items() if k not in _OWN}
        common = {"params": params, **lanes.share_shapes(rest, mesh, divide=False)}
        own = lanes.stack_shapes({k: loop.data[k] for k in _OWN}, mesh)
        state = jax.eval_shape(loop.start, {**loop.data, "params": params})
        return lanes.lower(
            loop.step, mesh, lanes.stack_shapes(state, mesh, divide=True), common, own
        )

    found: dict[str, Callable[[], Any]] = {}
    for i, (stage, config) in enumerate(zip(what.cascade.stages, settings.tuning, strict=True)):
        if i == 0 and settings.embedding.steps:
            found["embed"] = functools.partial(lower, i, True)
        if config is not None and config.steps:
            found[f"tune {stage.name}"] = functools.partial(lower, i, False)
    return found
