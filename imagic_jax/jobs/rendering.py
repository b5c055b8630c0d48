"""Drawing a fit and writing the results: the end of `imagic edit`, and all of `imagic render`."""

import dataclasses
import json
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image as pil

from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.errors import UserError
from imagic_jax.jobs import output, pictures
from imagic_jax.jobs.eta_choice import Scorer, choose_per_seed
from imagic_jax.jobs.models import RANDOM
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.timing import StageTime, timings
from imagic_jax.jobs.work import Sweep, Watch, Work
from imagic_jax.metrics.psnr import psnr
from imagic_jax.report.page import edit_page
from imagic_jax.report.strips import edit_strip
from imagic_jax.runtime.paths import AnyPath
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderJob:
    """A fit and how to draw it.

    Attributes:
        work: the editor, its strengths, seeds and sampling.
        fit, about, folder: the fit's arrays, its fit.json, and where it lies.
        out: where the results go.
        square: the input as the model saw it, [-1, 1].
        away: the text to be guided away from, per stage; None for the empty one.
        negative: the same in words.
        source: the whole picture, where results shall be pasted back into it.
        scorer: what chooses eta from the sweep, if that was asked for.
        crop: how its square was chosen.
        notes: warnings so far.
    """

    work: Work
    fit: Any
    about: Mapping[str, Any]
    folder: AnyPath
    out: AnyPath
    square: Float[np.ndarray, "s s 3"]
    away: tuple[Cond, ...] | None = None
    negative: str = ""
    source: Source | None = None
    scorer: Scorer | None = None
    crop: str = "center"
    notes: tuple[str, ...] = ()


def render_and_report(
    job: RenderJob,
    cascade: Cascade,
    params: Params,
    times: Sequence[StageTime],
    began: float,
    watch: Watch,
) -> dict[str, Any]:
    """Draws every strength and seed, writes pictures, strip, page and result.json; returns the
    last.

    Raises:
        Interrupted: stopped on request; nothing was written yet.
    """
    drawn, facts, spent = job.work.draw(cascade, params, job.fit, job.away, job.square, watch)
    times = [*times, *spent]
    return report(job, drawn, facts, times, began, watch.reporter.warn)


def report(
    job: RenderJob,
    drawn: Sweep,
    facts: Mapping[str, Any],
    times: Sequence[StageTime],
    began: float,
    warn: Callable[[str], None],
) -> dict[str, Any]:
    """Writes pictures, strip, page and result.json of what was drawn; returns the last.

    Args:
        job, drawn, facts: the fit, its pictures, and what result.json says of them.
        times: where the time went.
        began: when the edit began (`time.perf_counter`).
        warn: is told every warning.
    """
    work, about = job.work, job.about
    result: dict[str, Any] = {
        "method": work.name,
        "text": about["text"],
        "negative": job.negative,
        "preset": about["preset"],
        "model": about["model"],
        "random_weights": about["random_weights"],
        "image": about["image"],
        "box": about["box"],
        "seed": about["seed"],
        "crop": job.crop,
        **drawn_with(work),
        "outputs": [],
        **facts,
        "versions": output.versions(),
        "device": output.device(),
    }
    result["outputs"] = _outputs(job, drawn, result)
    if job.scorer is not None:
        chosen = choose_per_seed(job.scorer, drawn, result["strengths"], result["seeds"])
        result["eta_choice"] = chosen
    found = work.weaknesses(result, drawn)
    for warning in found:
        warn(warning)
    result["warnings"] = [*job.notes, *found]
    result["timings"] = timings(times, time.perf_counter() - began)
    _write(job, drawn, result)
    return result


def drawn_with(work: Work) -> dict[str, Any]:
    """The part of result.json that says how pictures were drawn."""
    sampling = work.settings.sampling
    return {
        "knob": work.knob,
        "strengths": list(work.strengths),
        "seeds": list(work.settings.seeds),
        "guidance": [1.0 if g is None else g for g in sampling.guidance],
        "steps": list(sampling.steps),
        "sampler": sampling.sampler,
        "start": sampling.start,
    }


def _outputs(job: RenderJob, drawn: Sweep, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per picture, strengths slowest: its files, and how far it is from the input."""
    knob, rows = result["knob"], []
    for e, strength in enumerate(result["strengths"]):
        for s, seed in enumerate(result["seeds"]):
            name = f"{knob}{strength:g}_seed{seed}.png"
            row = {knob: strength, "seed": seed, "file": f"edited_{name}"}
            if job.source is not None:
                row["pasted"] = f"pasted_{name}"
            away = psnr(jnp.asarray(drawn[e, s : s + 1]), jnp.asarray(job.square[None]))
            rows.append({**row, "input_psnr": float(away[0])})
    return rows


def _write(job: RenderJob, drawn: Sweep, result: dict[str, Any]) -> None:
    """Pictures, strip and page; result.json last, as the sign that all is there."""
    out, flat = job.out, drawn.reshape(-1, *drawn.shape[2:])
    images = np.empty(drawn.shape[:2], object)
    for i, (row, picture) in enumerate(zip(result["outputs"], flat, strict=True)):
        images.flat[i] = pictures.to_pil(picture)
        output.save_picture(images.flat[i], out / row["file"])
        if job.source is not None:
            output.save_picture(pictures.paste_back(job.source, picture), out / row["pasted"])
    square = pictures.to_pil(job.square)
    output.save_picture(square, out / "input.png")
    mask = job.work.mask(job.fit)
    beside = {"input": square}
    if mask is not None:
        beside["mask"] = pictures.grey(mask)
        output.save_picture(beside["mask"], out / "mask.png")
    title = f"{RANDOM}: {result['text']}" if result["random_weights"] else result["text"]
    output.save_picture(edit_strip(beside, images, result, title), out / "strip.png")
    command = f"imagic render --fit={shlex.quote(str(job.folder))} {job.work.again} --seeds=0,1"
    page = edit_page(beside, images, result, job.work.headline, job.work.numbers(result), command)
    output.write_text(out / "index.html", page)
    output.write_text(out / "result.json", json.dumps(result, indent=2) + "\n")


def read_square(path: AnyPath) -> Float[np.ndarray, "s s 3"]:
    """The input square that is kept beside a fit, [-1, 1].

    Raises:
        UserError: it is missing or broken.
    """
    try:
        with path.open("rb") as file, pil.open(file) as opened:
            return np.asarray(opened.convert("RGB"), np.float32) / 127.5 - 1.0
    except OSError as error:
        raise UserError(f"{path} is missing or broken; fit the picture again") from error
