"""Imagic as a job: its loops with checkpoints, its sweep over eta, what is said of a result."""

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.backbones import adapters
from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.backbones.generate import drawing_programs
from imagic_jax.backbones.priors import check_prior
from imagic_jax.backbones.registry import Opened
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.editors import imagic
from imagic_jax.editors.contracts import Cost
from imagic_jax.editors.imagic import Fit
from imagic_jax.errors import UserError
from imagic_jax.jobs.fitting import run_fit
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime, timed
from imagic_jax.jobs.work import Given, Sweep, Watch
from imagic_jax.metrics.psnr import psnr
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.paths import AnyPath
from imagic_jax.runtime.progress import Reporter
from imagic_jax.typing import Params

TITLE, PAPER = "Imagic", "Kawar et al. 2023, arXiv:2210.09276"
FIRST_STEPS = 20  # losses of the first embedding steps tell how familiar the picture is
#: Below (or above) these a result gets a warning with the knob to turn.
POOR_RECONSTRUCTION = 22.0  # dB PSNR at eta = 0
STILL_EMBEDDING = 0.03  # ||e_opt - e_tgt|| / ||e_tgt||
WEAK_EDIT = 32.0  # dB PSNR between the smallest and the largest eta


@dataclasses.dataclass(frozen=True)
class ImagicWork:
    """See `work.Work`."""

    settings: EditSettings
    name = "imagic"
    knob = "eta"
    texts = ()
    again = "--eta=0.5,0.75,1"
    headline = "Edited with Imagic. eta = 0 is the picture, eta = 1 follows the text."

    @property
    def strengths(self) -> tuple[float, ...]:
        return self.settings.etas

    def mask(self, fit: Fit) -> None:
        return None

    def on(self, source: Source, text: str) -> tuple["ImagicWork", list[str]]:
        return self, []

    def check(self, opened: Opened) -> None:
        check_tuning(opened, self.settings)

    def memory_settings(self) -> EditSettings:
        return self.settings

    def decides(self, cascade: Cascade) -> dict[str, Any]:
        return {
            "embedding": dataclasses.asdict(self.settings.embedding),
            "tuning": {
                s.name: dataclasses.asdict(t)
                for s, t in zip(cascade.stages, self.settings.tuning, strict=True)
                if t is not None
            },
        }

    def programs(
        self, cascade: Cascade, params: Params, target: Sequence[Cond], *, fitting: bool
    ) -> Mapping[str, Callable[[], Any]]:
        settings = self.settings
        draw = drawing_programs(cascade, params["stages"], target, settings.sampling)
        if not fitting:
            return draw
        fit = imagic.fitting_programs(cascade, params, target, settings.embedding, settings.tuning)
        return {**fit, **draw}

    def target(self, fit: Fit) -> tuple[Cond, ...]:
        return tuple(f.target for f in fit.stages)

    def fit(self, given: Given, folder: AnyPath, watch: Watch) -> tuple[Fit, list[StageTime]]:
        return run_fit(
            given.cascade,
            given.params,
            given.image,
            given.target,
            given.null,
            self.settings,
            folder,
            watch.ahead,
            watch.reporter,
            watch.stop,
        )

    def unfamiliar(self, card: Mapping[str, Any], times: Sequence[StageTime]) -> str:
        return unfamiliar(card, times)

    def draw(
        self,
        cascade: Cascade,
        params: Params,
        fit: Fit,
        away: tuple[Cond, ...] | None,
        square: Float[np.ndarray, "s s 3"],
        watch: Watch,
    ) -> tuple[Sweep, dict[str, Any], list[StageTime]]:
        if away is not None:
            fit = fit._replace(null=away)
        etas = drawn_etas(self.settings)
        drawn, spent = draw(cascade, params, fit, etas, square, self.settings, *watch)
        return drawn[: len(self.settings.etas)], facts(self.settings, fit, drawn, square), [spent]

    def weaknesses(self, result: Mapping[str, Any], drawn: Sweep) -> list[str]:
        return weaknesses(result, drawn)

    def numbers(self, result: Mapping[str, Any]) -> list[tuple[str, str]]:
        moved = f"{result['embedding_distance']:.3f}"
        return [
            ("reconstruction at eta = 0", f"{result['reconstruction_psnr']:.1f} dB PSNR"),
            ("moved embedding, ||e_opt - e_tgt|| / ||e_tgt||", moved),
        ]


def drawn_etas(settings: EditSettings) -> list[float]:
    """The amounts that are drawn: those asked for, and 0, which measures the reconstruction."""
    asked = list(settings.etas)
    return asked if 0.0 in asked else [*asked, 0.0]


def facts(
    settings: EditSettings,
    fit: Fit,
    drawn: Sweep,
    square: Float[np.ndarray, "s s 3"],
) -> dict[str, Any]:
    """What result.json says of pictures that were drawn at `drawn_etas`."""
    asked, count = list(settings.etas), cost(settings)
    reconstruction = jnp.asarray(drawn[drawn_etas(settings).index(0.0), :1])
    return {
        "title": TITLE,
        "paper": PAPER,
        "etas": asked,
        "evaluations": {"fit": count.fit, "render": [count.render] * len(asked)},
        "pictures_drawn": drawn.shape[0] * drawn.shape[1],
        "embedding_distance": embedding_distance(fit),
        "reconstruction_psnr": float(psnr(reconstruction, jnp.asarray(square[None]))[0]),
    }


def cost(settings: EditSettings) -> Cost:
    """Model evaluations of an edit on the base: three for each draw of the fit, with its gradient,
    and a fourth for what the model answered before on one of its prior (see `contracts.Cost`)."""
    tuning = settings.tuning[0]
    fit = 3 * settings.embedding.steps * settings.embedding.batch
    fit += tuning.steps * (3 * tuning.batch + 4 * tuning.prior_batch) if tuning is not None else 0
    guided = settings.sampling.guidance[0] is not None
    steps = settings.sampling.steps[0] - settings.sampling.left_out
    return Cost(fit, steps * (2 if guided else 1))


def check_tuning(opened: Opened, settings: EditSettings) -> None:
    """Refuses to tune what cannot be tuned, before anything is written.

    Raises:
        UserError: naming the setting.
    """
    shapes = opened.stage_shapes()
    for stage, stage_shapes, config in zip(
        opened.cascade.stages, shapes, settings.tuning, strict=True
    ):
        if config is None:
            continue
        where = f"config.tuning.{stage.name}"
        try:
            jax.eval_shape(lambda p, c=config: adapters.split(p, c.spec)[0], stage_shapes)
        except ValueError as error:
            raise UserError(f"{where}.train: {error}") from error
        if not config.steps:
            continue
        try:
            jax.eval_shape(lambda p, c=config: imagic.start_tuning(p, c).value, stage_shapes)
            if config.prior_batch:
                channels, network = stage.sample_shape(1)[-1], cast(UNetStage, stage).unet
                check_prior(stage_shapes["prior"], channels, network.config.text_dim)
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error


def draw(
    cascade: Cascade,
    params: Params,
    fit: Fit,
    etas: Sequence[float],
    square: Float[np.ndarray, "h w 3"],
    settings: EditSettings,
    ahead: Ahead,
    reporter: Reporter,
    stop: StopFlag,
) -> tuple[Float[np.ndarray, "e s h w 3"], StageTime]:
    """Renders with progress: pictures in [-1, 1] by eta and seed, and the time it took."""
    spent = StageTime("rendering")
    batches = math.ceil(len(etas) * len(settings.seeds) / settings.sampling.batch)
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
        drawn = imagic.render(
            cascade,
            params,
            fit,
            etas,
            settings.seeds,
            settings.sampling,
            image=jnp.asarray(square[None]),
            before_stage=before_stage,
            on_batch=on_batch,
        )
    return drawn, spent


def embedding_distance(fit: Fit) -> float:
    """||e_opt - e_tgt|| / ||e_tgt|| of the base stage."""
    target, opt = fit.stages[0].target, fit.stages[0].optimised
    if opt is None:
        return 0.0
    a, b = (np.asarray(c.states, np.float64) for c in (target, opt))
    return float(np.linalg.norm(b - a) / max(np.linalg.norm(a), 1e-12))


def weaknesses(result: Mapping[str, Any], shown: Float[np.ndarray, "e s h w 3"]) -> list[str]:
    """Warnings about a result, each with the knob to turn."""
    found, etas = [], result["etas"]
    if result["reconstruction_psnr"] < POOR_RECONSTRUCTION:
        found.append(
            "the picture itself comes back poorly at eta = 0"
            f" ({result['reconstruction_psnr']:.1f} dB): raise --config.tuning.base.steps"
        )
    if result["embedding_distance"] < STILL_EMBEDDING:
        found.append(
            "the embedding hardly moved from the target text, so every eta may look alike: raise"
            " --config.embedding.steps"
        )
    low, high = int(np.argmin(etas)), int(np.argmax(etas))
    if etas[high] - etas[low] >= 0.5:
        change = float(psnr(jnp.asarray(shown[low]), jnp.asarray(shown[high])).min())
        if change > WEAK_EDIT:
            found.append(
                f"the edit is weak: eta = {etas[high]:g} hardly differs from eta = {etas[low]:g};"
                " try a larger --eta or --guidance, or fewer --config.tuning.base.steps"
            )
    return found


def unfamiliar(card: Mapping[str, Any], times: Sequence[StageTime]) -> str:
    """A sentence if the picture looks like nothing the model was trained on, else "".

    Judged by the mean loss of the first embedding steps against the bound on the model's card.
    """
    bound = card.get("familiar_loss")
    losses = times[0].losses[:FIRST_STEPS] if times else []
    if bound is None or len(losses) < FIRST_STEPS or times[0].steps < len(losses):
        return ""
    first = float(np.mean(losses))
    if first <= bound:
        return ""
    return (
        f"this picture looks like nothing that the model {card['name']} was trained on (loss"
        f" {first:.2f}; its own world stays below {bound:.2f}): it only knows Flatland, so expect"
        " a poor edit"
    )
