"""A saved fit as a folder for PyTorch diffusers: what `imagic convert` does.

What was tuned as a whole or in part becomes a copy of the base model with the tuned UNet in it, one
pipeline folder or, for a cascade, one per stage; LoRA becomes a file of adapters. The embeddings
and a README with code that draws lie beside.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imagic_jax.backbones import adapters
from imagic_jax.backbones.adapters import Trainable
from imagic_jax.backbones.priors import FOLDER as PRIOR
from imagic_jax.backbones.priors import carries_prior
from imagic_jax.backbones.registry import Opened
from imagic_jax.editors.imagic import Fit
from imagic_jax.errors import UserError
from imagic_jax.jobs import fits
from imagic_jax.jobs.converted import EMBEDDINGS, card_of, embeddings, notes_of, unets
from imagic_jax.jobs.models import DTYPES
from imagic_jax.report.snippets import readme
from imagic_jax.typing import DType
from imagic_jax.weights import load_part, save_part
from imagic_jax.weights.folder import read_config
from imagic_jax.weights.lora import LORA_FILE, save_lora
from imagic_jax.weights.pipelines import copy_pipeline
from imagic_jax.weights.safetensors_io import write_tensors


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvertRequest:
    """What the user asked for.

    Attributes:
        fit, about: the fit's folder and its fit.json.
        to: the folder to write.
        dtype: of what was tuned, a key of `DTYPES`; the rest is copied as it is.
        merge: put LoRA into a whole model too.
        overwrite: replace an earlier conversion.
    """

    fit: Path
    about: Mapping[str, Any]
    to: Path
    dtype: str = "float32"
    merge: bool = False
    overwrite: bool = False


def refuse_unfit(about: Mapping[str, Any]) -> None:
    """Refuses fits that are no tuned model, before their model is looked for.

    Raises:
        UserError: this one is of another method than Imagic, or of made-up weights.
    """
    if about["method"] != "imagic":
        raise UserError(
            f"--fit: this is a picture inverted by {about['method']}, which tunes no model; only"
            " Imagic's fits can be converted"
        )
    if about.get("random_weights"):
        raise UserError("--fit: this was fitted on random weights, which are no model to convert")


def convert(request: ConvertRequest, opened: Opened) -> list[str]:
    """Writes the folder; returns what lies in it, one line each.

    Raises:
        UserError: the fit is broken or belongs to other weights, or the folder cannot be written.
        WeightsError: a part of the base model is missing, or a number overflows in the dtype.
    """
    refuse_unfit(request.about)
    if request.about["weights"] != opened.fingerprint():
        raise UserError(
            f"--fit: {request.fit} was fitted on other weights than those of"
            f" {opened.card['name']} here, so it cannot be put into them; fit the picture again"
        )
    to = request.to.expanduser().resolve()
    _check_target(to, request, opened)
    fit = fits.load_fit(request.fit)
    with _appearing(to) as fresh:
        return _write(fresh, fit, request, opened)


def _check_target(to: Path, request: ConvertRequest, opened: Opened) -> None:
    """Refuses a place that holds something else, or what is about to be read."""
    if to.exists() and not to.is_dir():
        raise UserError(f"--to: {request.to} is a file; name a folder")
    if not to.is_dir() or not any(to.iterdir()):
        return
    if not request.overwrite:
        raise UserError(
            f"--to: {request.to} is not empty; choose another folder or add --overwrite"
        )
    read = [request.fit, *(homes.parent for homes in unets(opened))]
    if any(to == p or to in p.parents for p in (p.resolve() for p in read)):
        raise UserError(f"--to: {request.to} holds the fit or its model; choose another folder")
    if not (to / EMBEDDINGS).is_file():
        raise UserError(
            f"--to: {request.to} holds files that are no conversion, which --overwrite leaves"
            " alone; choose another folder"
        )


@contextlib.contextmanager
def _appearing(to: Path) -> Iterator[Path]:
    """A new folder beside `to` that takes its place once all is written.

    Raises:
        UserError: it cannot be written.
    """
    fresh, old = (to.with_name(f".{to.name}.{os.getpid()}.{end}") for end in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
        yield fresh
        if to.exists():
            to.rename(old)
        fresh.rename(to)
    except OSError as error:
        raise UserError(f"--to: {to} cannot be written ({error})") from error
    finally:
        if old.exists() and not to.exists():
            old.rename(to)
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)


def _write(to: Path, fit: Fit, request: ConvertRequest, opened: Opened) -> list[str]:
    """Everything; returns what lies there."""
    stages, several = opened.cascade.stages, len(fit.stages) > 1
    deltas = [s.delta for s in fit.stages if s.delta is not None]
    as_lora = not request.merge and bool(deltas) and all(adapters.is_lora(d) for d in deltas)
    dtype, lines = DTYPES[request.dtype], []
    for stage, unet, fitted in zip(stages, unets(opened), fit.stages, strict=True):
        where = f"{stage.name}/" if several else ""
        if not as_lora:
            _write_model(unet, to / where, fitted.delta, dtype)
            state = "as it was" if fitted.delta is None else "with the tuned UNet"
            lines.append(f"`{where or '.'}`: the model {state}")
        elif fitted.delta is not None:
            save_lora(to / where, read_config(unet), fitted.delta, dtype)
            lines.append(f"`{where}{LORA_FILE}`: the LoRA of the UNet")
    if not as_lora and (several or "stages" in opened.card):
        card = card_of(opened, request.to.resolve().name)
        (to / "cascade.json").write_text(json.dumps(card, indent=2) + "\n")
        lines.append("`cascade.json`: the order of the stages, for `imagic edit --model=`")
    tensors = embeddings(fit, [s.name for s in stages])
    write_tensors(to / EMBEDDINGS, tensors)
    lines.append(f"`{EMBEDDINGS}`: {', '.join(tensors)}")
    notes = notes_of(fit, request.about["config"], opened, as_lora)
    (to / "README.md").write_text(readme(request.about["text"], notes, lines), encoding="utf-8")
    return [*lines, "`README.md`: how to draw with it"]


def _write_model(unet: Path, to: Path, delta: Trainable | None, dtype: DType) -> None:
    """A copy of one pipeline, with the tuned UNet where there is one."""
    copy_pipeline(unet.parent, to, leave_out=() if delta is None else ("unet",))
    if carries_prior(unet.parent):
        shutil.copytree(unet.parent / PRIOR, to / PRIOR)
    if delta is not None:
        params = adapters.merge({"unet": load_part(unet)[1]}, delta)
        save_part(to / "unet", read_config(unet), params["unet"], dtype)
