"""A model on its devices, editing one group of pictures after the other, a picture per lane."""

import dataclasses
import functools
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import jax
from jax.sharding import Mesh

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate_lanes import lane_drawing_programs
from imagic_jax.backbones.registry import Opened
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import Fit
from imagic_jax.errors import UserError
from imagic_jax.jobs import eta_scorers, fits, pictures
from imagic_jax.jobs.imagic_work import facts, unfamiliar
from imagic_jax.jobs.lane_drawing import Easel, draw_group
from imagic_jax.jobs.lane_fitting import (
    DEFAULT_SAVING,
    Fitting,
    Saving,
    ToFit,
    lane_fitting_programs,
    run_fits,
)
from imagic_jax.jobs.rendering import RenderJob, report
from imagic_jax.jobs.request import Prepared, about_fit
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime
from imagic_jax.runtime import lanes
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import StopFlag
from imagic_jax.runtime.loop import NonFiniteLoss
from imagic_jax.runtime.mesh import lanes_of, make_meshes, parse_mesh
from imagic_jax.runtime.paths import AnyPath, remove
from imagic_jax.runtime.progress import Reporter

#: What became of a lane's picture: result.json, why there is none, or None for an idle lane.
Outcome = dict[str, Any] | UserError | NonFiniteLoss | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where and how a job runs.

    Attributes:
        meshes: per stage of the cascade; the same for all, or those that are tuned each on its own.
        saving: checkpoints.
    """

    meshes: tuple[Mesh, ...]
    saving: Saving = DEFAULT_SAVING

    @property
    def lanes(self) -> int:
        """How many pictures are edited at a time."""
        return lanes_of(self.meshes[0])

    @classmethod
    def alone(cls, opened: Opened) -> "Place":
        """One device."""
        return cls.chosen(opened, None, False)

    @classmethod
    def chosen(
        cls,
        opened: Opened,
        mesh: str | None,
        side_by_side: bool,
        settings: EditSettings | None = None,
        saving: Saving = DEFAULT_SAVING,
    ) -> "Place":
        """The place that flags describe: see `runtime.mesh`.

        Args:
            opened: the model.
            mesh: value of --mesh; None for one device.
            side_by_side: tune every stage on a mesh of its own, at the same time.
            settings: say which stages are tuned.
            saving: checkpoints.

        Raises:
            UserError: no such axes, or too few devices.
        """
        sizes = parse_mesh("image:1" if mesh is None else mesh)
        stages = len(opened.cascade.stages)
        own = [0]  # which mesh each stage works on; stages that are not tuned on the first
        for config in settings.tuning[1:] if settings and side_by_side else ():
            own.append(max(own) + 1 if config is not None and config.steps else 0)
        own += [0] * (stages - len(own))
        if settings is not None:
            _check_draws(sizes["sample"], settings, opened)
        meshes = make_meshes(sizes, max(own) + 1)
        return cls(meshes=tuple(meshes[i] for i in own), saving=saving)


def _check_draws(parts: int, settings: EditSettings, opened: Opened) -> None:
    """Refuses to divide noise draws that cannot be: every device would draw all of them.

    Raises:
        UserError: naming the setting.
    """
    batches = {"embedding": settings.embedding.batch}
    for stage, config in zip(opened.cascade.stages, settings.tuning, strict=True):
        if config is not None and config.steps:
            batches[f"tuning.{stage.name}"] = config.batch
    for name, batch in batches.items():
        if batch % parts:
            raise UserError(
                f"--mesh: sample:{parts} divides the noise draws of a step, and"
                f" config.{name}.batch is {batch}: make it a multiple of {parts}"
            )


class Workshop:
    """Use as a context manager; then `compile_ahead`, then `edit` for each group."""

    def __init__(
        self,
        opened: Opened,
        settings: EditSettings,
        place: Place,
        null: Sequence[Cond],
        away: Sequence[Cond] | None,
        target: Sequence[Cond],
        reporter: Reporter,
        stop: StopFlag,
        named: bool = False,
    ):
        """Reads the stages' weights onto their devices.

        Args:
            opened: the model.
            settings: of all pictures; only etas and seeds may differ from picture to picture.
            place: where to work.
            null: the encoded empty text per stage.
            away: the text to be guided away from; None for the empty one.
            target: any text, for its shapes.
            reporter, stop: of the job.
            named: begin warnings with the name of the picture's folder.
        """
        self._named = named
        self._opened, self._settings, self._place = opened, settings, place
        self._away, self._target = None if away is None else tuple(away), target
        self._reporter, self._stop = reporter, stop
        cascade, meshes = opened.cascade, place.meshes
        params = opened.load_stages([lambda _, a, m=m: lanes.share(a, m) for m in meshes])
        self._fitting = Fitting(
            cascade=cascade,
            meshes=meshes,
            params=params,
            null=null,
            settings=settings,
            saving=place.saving,
        )
        self._easel = Easel(
            cascade=cascade, meshes=meshes, params=params, sampling=settings.sampling
        )
        self._ahead = Ahead({})

    def __enter__(self) -> "Workshop":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ahead.__exit__(kind, error, trace)

    def compile_ahead(self, fitting: bool) -> None:
        """Begins to compile what will be needed, the loops only where something is fitted."""
        what = self._fitting
        programs = lane_fitting_programs(what, self._target) if fitting else {}
        deltas = self._delta_shapes()
        programs |= lane_drawing_programs(
            what.cascade, what.meshes, what.params, deltas, self._target, self._easel.sampling
        )
        self._ahead = Ahead(programs)
        self._ahead.__enter__()

    def _delta_shapes(self) -> list[Any]:
        return [
            None
            if config is None or not config.steps
            else jax.eval_shape(lambda p, c=config: imagic.start_tuning(p, c).value, p)["trainable"]
            for p, config in zip(self._fitting.params, self._settings.tuning, strict=True)
        ]

    def edit(
        self, group: Sequence[tuple[Prepared, Sequence[Cond]] | None], began: float
    ) -> list[Outcome]:
        """Fits what is not fitted yet, draws and reports a group: one picture per lane.

        Args:
            group: each picture with its encoded text; None leaves a lane idle.
            began: when the work on it began (`time.perf_counter`).

        Raises:
            Interrupted: stopped on request; the work so far is in the folders.
            NoRoom: the disk is full.
        """
        outcomes: list[Outcome] = [None] * len(group)
        times: list[list[StageTime]] = [[] for _ in group]
        made = self._fit_group(group, outcomes, times)
        jobs: list[RenderJob | None] = [None] * len(group)
        for lane, entry in enumerate(group):
            if entry is not None and outcomes[lane] is None:
                try:
                    jobs[lane] = self._render_job(entry[0], made.get(lane))
                except UserError as error:
                    outcomes[lane] = error
        if any(jobs):
            drawn = self.draw(jobs, times, began)
            outcomes = [o or d for o, d in zip(outcomes, drawn, strict=True)]
        return outcomes

    def draw(
        self,
        jobs: Sequence[RenderJob | None],
        times: Sequence[Sequence[StageTime]],
        began: float,
    ) -> list[Any]:
        """Draws and reports fitted pictures, one per lane: result.json of each."""
        drawn = draw_group(self._easel, jobs, self._ahead, self._reporter, self._stop)
        found: list[Any] = []
        for job, one, spent in zip(jobs, drawn, times, strict=True):
            if job is None or one is None:
                found.append(None)
                continue
            settings = job.work.settings
            told = facts(settings, job.fit, one.pictures, job.square)
            shown = one.pictures[: len(settings.etas)]
            warn = functools.partial(self._warn, job.out)
            found.append(report(job, shown, told, [*spent, one.spent], began, warn))
        return found

    def _fit_group(
        self,
        group: Sequence[tuple[Prepared, Sequence[Cond]] | None],
        outcomes: list[Outcome],
        times: list[list[StageTime]],
    ) -> dict[int, Fit]:
        """Fits and saves what has no fit yet: by lane. Notes who diverged, and the times."""
        to_fit = [
            ToFit(
                square=entry[0].source.square,
                target=jax.device_get(tuple(entry[1])),
                seed=entry[0].work.settings.seed,
                checkpoints=entry[0].request.out / "checkpoints",
            )
            if entry is not None and not entry[0].fitted
            else None
            for entry in group
        ]
        made: dict[int, Fit] = {}
        if not any(to_fit):
            return made
        done = run_fits(self._fitting, to_fit, self._ahead, self._reporter, self._stop)
        for lane, (entry, one) in enumerate(zip(group, done, strict=True)):
            if entry is None or one is None:
                continue
            if isinstance(one, NonFiniteLoss):
                outcomes[lane] = one
                continue
            made[lane], times[lane] = one
            self._save(entry[0], made[lane], times[lane])
        return made

    def _save(self, prepared: Prepared, fit: Fit, times: Sequence[StageTime]) -> None:
        about = about_fit(prepared, self._opened, unfamiliar(self._opened.card, times))
        square = pictures.to_pil(prepared.source.square[0])
        fits.save_fit(prepared.request.out / "fit", fit, about, square)

    def _warn(self, folder: AnyPath, text: str) -> None:
        self._reporter.warn(f"{folder.name}: {text}" if self._named else text)

    def _render_job(self, prepared: Prepared, fit: Fit | None) -> RenderJob:
        """How to draw a fit that is saved; it is read where it was not just made."""
        request = prepared.request
        folder = request.out / "fit"
        about = fits.read_about(folder)
        fit = fit or fits.load_fit(folder)
        if not request.keep_checkpoints:
            remove(request.out / "checkpoints")
        notes = list(prepared.notes)
        if about["unfamiliar"]:
            self._warn(request.out, about["unfamiliar"])
            notes.append(about["unfamiliar"])
        square, scorer = prepared.source.square[0], None
        if request.choose_eta:
            card, weights = self._opened.card, request.metric_weights
            scorer, why = eta_scorers.scorer_for(card, square, prepared.text, weights)
            if why:
                self._warn(request.out, why)
                notes.append(why)
        return RenderJob(
            work=prepared.work,
            fit=fit,
            about=about,
            folder=folder,
            out=request.out,
            square=square,
            away=self._away,
            negative=request.negative,
            source=prepared.source if request.paste_back else None,
            scorer=scorer,
            crop=request.crop,
            notes=tuple(notes),
        )
