"""One edit from a picture file to a finished folder: what `imagic edit` does, by any method."""

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.registry import Opened
from imagic_jax.errors import UserError
from imagic_jax.jobs import disk, eta_scorers, fits, memory, output, pictures
from imagic_jax.jobs.eta_choice import Scorer
from imagic_jax.jobs.rendering import RenderJob, drawn_with, read_square, render_and_report
from imagic_jax.jobs.request import EditRequest, about_fit, checked_text, prepare
from imagic_jax.jobs.work import Given, Watch, Work
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.interrupt import StopFlag
from imagic_jax.runtime.paths import AnyPath, remove
from imagic_jax.runtime.progress import Reporter

__all__ = ["AgainRequest", "EditRequest", "checked_text", "edit", "encode_texts", "render_again"]


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
    cascade = opened.cascade
    prepared = prepare(request, opened)
    source, work = prepared.source, prepared.work
    work.check(opened)
    if request.check_memory:
        memory.check(opened, work.memory_settings())
        disk.check(request.out, opened, work.memory_settings(), 0 if prepared.fitted else 1)
    if output.open_job(request.out, prepared.job, request.overwrite):
        finished = _finished(request) if request.reuse else None
        if finished is not None:
            return finished
        reporter.say(f"continuing the job in {request.out}")
    notes = list(prepared.notes)
    for note in notes:
        reporter.warn(note)

    texts = [prepared.text, "", *work.texts, request.negative or ""]
    target, null, *rest = encode_texts(opened, texts)
    away = rest.pop()
    given = Given(
        cascade,
        {"stages": opened.load_stages()},
        jnp.asarray(source.square),
        target,
        null,
        tuple(rest),
    )

    folder = request.out / "fit"
    fitted = prepared.fitted
    programs = work.programs(cascade, given.params, target, fitting=not fitted)
    with Ahead(programs) as ahead:
        watch = Watch(ahead, reporter, stop)
        if fitted:
            reporter.say("the picture is fitted already; drawing it")
            fit, about, times = fits.load_fit(folder), fits.read_about(folder), []
        else:
            fit, times = work.fit(given, request.out / "checkpoints", watch)
            about = about_fit(prepared, opened, work.unfamiliar(opened.card, times))
            fits.save_fit(folder, fit, about, pictures.to_pil(source.square[0]))
        if not request.keep_checkpoints:
            remove(request.out / "checkpoints")
        if about["unfamiliar"]:
            reporter.warn(about["unfamiliar"])
            notes.append(about["unfamiliar"])
        scorer = None
        if request.choose_eta:
            scorer, why = _scorer(request, opened, source.square[0], prepared.text, reporter)
            notes += [why] if why else []
        job_to_draw = RenderJob(
            work=work,
            fit=fit,
            about=about,
            folder=folder,
            out=request.out,
            square=source.square[0],
            away=away if request.negative else None,
            negative=request.negative,
            source=source if request.paste_back else None,
            scorer=scorer,
            crop=request.crop,
            notes=tuple(notes),
        )
        return render_and_report(job_to_draw, cascade, given.params, times, began, watch)


def _finished(request: EditRequest) -> dict[str, Any] | None:
    """What result.json of the same job holds, if it was drawn with the same settings."""
    try:
        result = json.loads((request.out / "result.json").read_text())
    except (OSError, ValueError):
        return None
    asked = {"negative": request.negative, **drawn_with(request.work)}
    there = all((request.out / row["file"]).is_file() for row in result["outputs"])
    return result if there and all(result.get(k) == v for k, v in asked.items()) else None


def encode_texts(opened: Opened, texts: Sequence[str]) -> list[tuple[Cond, ...]]:
    """Every text as each stage reads it, batch of 1.

    The text encoder is loaded for this alone: T5-XXL is larger than what is tuned afterwards.
    """
    text_params = opened.load_text()
    return [jax.block_until_ready(opened.cascade.text.encode(text_params, [t])) for t in texts]


@dataclasses.dataclass(frozen=True, kw_only=True)
class AgainRequest:
    """A saved fit, to be drawn again."""

    fit: AnyPath
    about: Mapping[str, Any]
    work: Work
    out: AnyPath
    negative: str = ""
    image: AnyPath | None = None  # the whole picture, to paste results back into
    overwrite: bool = False
    choose_eta: bool = False
    metric_weights: Path | None = None  # for choosing eta on photographs
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
    work = request.work
    work.check(opened)
    job = {"fit": about["image_sha256"], "text": about["text"], "weights": about["weights"]}
    output.open_job(request.out, job, request.overwrite)
    notes = list(request.notes)
    if request.negative:
        notes += cascade.text.check(request.negative)
    for note in notes:
        reporter.warn(note)
    away = encode_texts(opened, [request.negative])[0] if request.negative else None
    scorer = None
    if request.choose_eta:
        scorer, why = _scorer(request, opened, square, about["text"], reporter)
        notes += [why] if why else []
    job_to_draw = RenderJob(
        work=work,
        fit=fit,
        about=about,
        folder=request.fit,
        out=request.out,
        square=square,
        away=away,
        negative=request.negative,
        source=source,
        scorer=scorer,
        notes=tuple(notes),
    )
    params = {"stages": opened.load_stages()}
    programs = work.programs(cascade, params, work.target(fit), fitting=False)
    with Ahead(programs) as ahead:
        watch = Watch(ahead, reporter, stop)
        return render_and_report(job_to_draw, cascade, params, [], began, watch)


def _scorer(
    request: EditRequest | AgainRequest,
    opened: Opened,
    square: Float[np.ndarray, "s s 3"],
    text: str,
    reporter: Reporter,
) -> tuple[Scorer | None, str]:
    """What will choose eta; None with a warning where nothing can."""
    reporter.say("reading the picture, to choose eta")
    scorer, why = eta_scorers.scorer_for(opened.card, square, text, request.metric_weights)
    if why:
        reporter.warn(why)
    return scorer, why
