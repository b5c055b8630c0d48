"""What is asked of an edit, and its picture read: everything before the model's weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from imagic_jax.backbones.registry import Opened
from imagic_jax.errors import UserError
from imagic_jax.jobs import output, pictures
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.work import Work
from imagic_jax.runtime.paths import AnyPath


@dataclasses.dataclass(frozen=True, kw_only=True)
class EditRequest:
    """What the user asked for.

    `config` is the resolved preset as plain values: kept with the fit, so that it can be rendered
    again whatever becomes of the preset's file.
    """

    image: AnyPath
    text: str
    out: AnyPath
    preset: str
    config: Mapping[str, Any]
    work: Work
    negative: str = ""
    crop: str = "center"
    overwrite: bool = False
    keep_checkpoints: bool = False
    paste_back: bool = False
    check_memory: bool = True
    reuse: bool = False  # a result of the same job and settings is returned as it is
    choose_eta: bool = False
    metric_weights: Path | None = None  # for choosing eta on photographs
    notes: tuple[str, ...] = ()  # about the model, for people


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request whose picture was read.

    Attributes:
        request: what was asked.
        text: the text without outer spaces.
        work: the request's, for this picture and text.
        source: the picture.
        job: what job.json holds.
        notes: warnings so far.
    """

    request: EditRequest
    text: str
    work: Work
    source: Source
    job: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def fitted(self) -> bool:
        """Whether the fit is there already."""
        return (self.request.out / "fit" / "fit.json").is_file()


def prepare(request: EditRequest, opened: Opened) -> Prepared:
    """Reads the picture and says what the job is.

    Raises:
        UserError: the picture or text cannot be used.
    """
    cascade = opened.cascade
    source = pictures.load_source(request.image, cascade.size, request.crop)
    text = checked_text(request.text)
    work, found = request.work.on(source, text)
    notes = [*request.notes, *source.notes, *found, *cascade.text.check(text)]
    for other in (request.negative, *work.texts):
        notes += cascade.text.check(other) if other else []
    return Prepared(
        request=request,
        text=text,
        work=work,
        source=source,
        job=job_of(work, text, source.digest, source.box, opened),
        notes=tuple(notes),
    )


def job_of(
    work: Work, text: str, digest: str, box: Sequence[int], opened: Opened
) -> dict[str, Any]:
    """Everything that decides a fit, for job.json."""
    return {
        "image_sha256": digest,
        "text": text,
        "box": list(box),
        "size": opened.cascade.size,
        "weights": opened.fingerprint(),
        "seed": work.settings.seed,
        **work.decides(opened.cascade),
    }


def about_fit(prepared: Prepared, opened: Opened, unfamiliar: str) -> dict[str, Any]:
    """What fit.json says of a fit; `unfamiliar` is a warning, or ""."""
    request, work = prepared.request, prepared.work
    return {
        **prepared.job,
        "method": work.name,
        "strengths": list(work.strengths),
        "model": opened.card["name"],
        "random_weights": opened.random,
        "preset": request.preset,
        "config": dict(request.config),
        "image": request.image.name,
        "unfamiliar": unfamiliar,
        "versions": output.versions(),
    }


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
