"""One edit from a picture file to a finished folder: what `imagic edit` does."""

import dataclasses
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.backbones import adapters
from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import drawing_programs
from imagic_jax.backbones.registry import Opened
from imagic_jax.editors import imagic
from imagic_jax.errors import UserError
from imagic_jax.jobs import fits, memory, output, pictures
from imagic_jax.jobs.fitting import run_fit
from imagic_jax.jobs.rendering import RenderJob, read_square, render_and_report
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import StopFlag
from imagic_jax.runtime.progress import Reporter

FIRST_STEPS = 20  # losses of the first embedding steps tell how familiar the picture is


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditRequest:
    """What the user asked for.

    `config` is the resolved preset as plain values: kept with the fit, so that it can be rendered
    again whatever becomes of the preset's file.
    """

    image: Path
    text: str
    out: Path
    preset: str
    config: Mapping[str, Any]
    settings: EditSettings
    negative: str = ""
    crop: str = "center"
    overwrite: bool = False
    keep_checkpoints: bool = False
    paste_back: bool = False
    check_memory: bool = True
    notes: tuple[str, ...] = ()  # about the model, for people


def edit(
    request: EditRequest, opened: Opened, reporter: Reporter, stop: StopFlag
) -> dict[str, Any]:
    """Fits, renders and reports one edit; returns what result.json holds.

    Raises:
        UserError: the picture, text or folder cannot be used.
        Interrupted: stopped on request; the work so far is in the folder.
        NonFiniteLoss: the optimisation diverged.
    """
    began = time.perf_counter()
    cascade, settings = opened.cascade, request.settings
    source = pictures.load_source(request.image, cascade.size, request.crop)
    text = checked_text(request.text)
    check_tuning(opened, settings)
    if request.check_memory:
        memory.check(opened, settings)
    job = {
        "image_sha256": source.digest,
        "text": text,
        "box": list(source.box),
        "size": cascade.size,
        "weights": opened.fingerprint(),
        "seed": settings.seed,
        "embedding": dataclasses.asdict(settings.embedding),
        "tuning": {
            s.name: dataclasses.asdict(t)
            for s, t in zip(cascade.stages, settings.tuning, strict=True)
            if t is not None
        },
    }
    if output.open_job(request.out, job, request.overwrite):
        reporter.say(f"continuing the job in {request.out}")
    notes = [*request.notes, *source.notes, *cascade.text.check(text)]
    if request.negative:
        notes += cascade.text.check(request.negative)
    for note in notes:
        reporter.warn(note)

    target, null, *rest = encode_texts(opened, [text, "", *filter(None, [request.negative])])
    away = rest[0] if rest else null
    params = {"stages": opened.load_stages()}

    folder = request.out / "fit"
    fitted = (folder / "fit.json").is_file()
    programs = drawing_programs(cascade, params["stages"], target, settings.sampling)
    if not fitted:
        programs = {
            **imagic.fitting_programs(cascade, params, target, settings.embedding, settings.tuning),
            **programs,
        }
    with Ahead(programs) as ahead:
        if fitted:
            reporter.say("the picture is fitted already; drawing it")
            fit, about, times = fits.load_fit(folder), fits.read_about(folder), []
        else:
            image = jnp.asarray(source.square)
            checkpoints = request.out / "checkpoints"
            fit, times = run_fit(
                cascade, params, image, target, null, settings, checkpoints, ahead, reporter, stop
            )
            about = {
                **job,
                "model": opened.card["name"],
                "random_weights": opened.random,
                "preset": request.preset,
                "config": dict(request.config),
                "image": request.image.name,
                "unfamiliar": unfamiliar(opened.card, times),
                "versions": output.versions(),
            }
            fits.save_fit(folder, fit, about, pictures.to_pil(source.square[0]))
        if not request.keep_checkpoints:
            shutil.rmtree(request.out / "checkpoints", ignore_errors=True)
        if about["unfamiliar"]:
            reporter.warn(about["unfamiliar"])
            notes.append(about["unfamiliar"])
        job_to_draw = RenderJob(
            fit=fit,
            about=about,
            settings=settings,
            out=request.out,
            square=source.square[0],
            null=away,
            negative=request.negative,
            source=source if request.paste_back else None,
            notes=tuple(notes),
        )
        return render_and_report(job_to_draw, cascade, params, times, began, ahead, reporter, stop)


def encode_texts(opened: Opened, texts: Sequence[str]) -> list[tuple[Cond, ...]]:
    """Every text as each stage reads it, batch of 1.

    The text encoder is loaded for this alone: T5-XXL is larger than what is tuned afterwards.
    """
    text_params = opened.load_text()
    return [jax.block_until_ready(opened.cascade.text.encode(text_params, [t])) for t in texts]


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
        except ValueError as error:
            raise UserError(f"{where}: {error}") from error


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgainRequest:
    """A saved fit, to be drawn again."""

    fit: Path
    about: Mapping[str, Any]
    settings: EditSettings
    out: Path
    negative: str = ""
    image: Path | None = None  # the whole picture, to paste results back into
    overwrite: bool = False
    notes: tuple[str, ...] = ()  # about the model, for people


def render_again(
    request: AgainRequest, opened: Opened, reporter: Reporter, stop: StopFlag
) -> dict[str, Any]:
    """Draws a saved fit; returns what result.json holds.

    Raises:
        UserError: the fit is broken or belongs to other weights, or the folder cannot be used.
        Interrupted: stopped on request.
    """
    began = time.perf_counter()
    about, cascade = request.about, opened.cascade
    if about["weights"] != opened.fingerprint():
        raise UserError(
            f"--fit: {request.fit} was fitted on other weights than those of"
            f" {opened.card['name']} here; fit the picture again"
        )
    source = None
    if request.image is not None:
        box = ",".join(str(v) for v in about["box"])
        source = pictures.load_source(request.image, cascade.size, box)
    fit, square = fits.load_fit(request.fit), read_square(request.fit / "input.png")
    job = {"fit": about["image_sha256"], "text": about["text"], "weights": about["weights"]}
    output.open_job(request.out, job, request.overwrite)
    notes = list(request.notes)
    if request.negative:
        notes += cascade.text.check(request.negative)
    for note in notes:
        reporter.warn(note)
    null = fit.null
    if request.negative:
        (null,) = encode_texts(opened, [request.negative])
    job_to_draw = RenderJob(
        fit=fit,
        about=about,
        settings=request.settings,
        out=request.out,
        square=square,
        null=null,
        negative=request.negative,
        source=source,
        notes=tuple(notes),
    )
    conds = [f.target for f in fit.stages]
    params = {"stages": opened.load_stages()}
    programs = drawing_programs(cascade, params["stages"], conds, request.settings.sampling)
    with Ahead(programs) as ahead:
        return render_and_report(job_to_draw, cascade, params, [], began, ahead, reporter, stop)


def checked_text(text: str) -> str:
    """The text without outer spaces.

    Raises:
        UserError: nothing is left.
    """
    text = " ".join(text.split())
    if not text:
        raise UserError(
            '--text is empty: say what the picture shall show, e.g. --text="a sitting dog"'
        )
    return text


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
