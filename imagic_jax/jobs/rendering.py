"""Drawing a fit and writing the results: the end of `imagic edit`, and all of `imagic render`."""

import dataclasses
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image as pil

from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import Fit
from imagic_jax.errors import UserError
from imagic_jax.jobs import output, pictures
from imagic_jax.jobs.models import RANDOM
from imagic_jax.jobs.pictures import Source
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.jobs.timing import StageTime, timings
from imagic_jax.metrics.psnr import psnr
from imagic_jax.report.page import edit_page
from imagic_jax.report.strips import eta_strip
from imagic_jax.runtime.ahead import Ahead
from imagic_jax.runtime.compilation import counted
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.progress import Reporter
from imagic_jax.typing import Params

#: Below (or above) these a result gets a warning with the knob to turn.
POOR_RECONSTRUCTION = 22.0  # dB PSNR at eta = 0
STILL_EMBEDDING = 0.03  # ||e_opt - e_tgt|| / ||e_tgt||
WEAK_EDIT = 32.0  # dB PSNR between the smallest and the largest eta


@dataclasses.dataclass(frozen=True, kw_only=True)
class RenderJob:
    """A fit and how to draw it.

    Attributes:
        fit, about: the fit's arrays and its fit.json.
        settings: etas, seeds, sampling.
        out: where the results go.
        square: the input as the model saw it, [-1, 1].
        null: the text to be guided away from, per stage.
        negative: the same in words.
        source: the whole picture, where results shall be pasted back into it.
        notes: warnings so far.
    """

    fit: Fit
    about: Mapping[str, Any]
    settings: EditSettings
    out: Path
    square: Float[np.ndarray, "s s 3"]
    null: tuple[Cond, ...]
    negative: str = ""
    source: Source | None = None
    notes: tuple[str, ...] = ()


def render_and_report(
    job: RenderJob,
    cascade: Cascade,
    params: Params,
    times: Sequence[StageTime],
    began: float,
    ahead: Ahead,
    reporter: Reporter,
    stop: StopFlag,
) -> dict[str, Any]:
    """Draws every eta and seed, writes pictures, strip, page and result.json; returns the last.

    Raises:
        Interrupted: stopped on request; nothing was written yet.
    """
    fit = job.fit._replace(null=job.null)
    asked, seeds = list(job.settings.etas), list(job.settings.seeds)
    etas = asked if 0.0 in asked else [*asked, 0.0]  # eta = 0 measures the reconstruction
    drawn, spent = draw(cascade, params, fit, etas, job.settings, ahead, reporter, stop)
    shown = drawn[: len(asked)]
    reconstruction = jnp.asarray(drawn[etas.index(0.0), :1])
    about = job.about
    result: dict[str, Any] = {
        "text": about["text"],
        "negative": job.negative,
        "preset": about["preset"],
        "model": about["model"],
        "random_weights": about["random_weights"],
        "image": about["image"],
        "box": about["box"],
        "etas": asked,
        "seeds": seeds,
        "seed": about["seed"],
        "guidance": [g if g is not None else 1.0 for g in job.settings.sampling.guidance],
        "steps": list(job.settings.sampling.steps),
        "outputs": [],
        "embedding_distance": embedding_distance(fit),
        "reconstruction_psnr": float(psnr(reconstruction, jnp.asarray(job.square[None]))[0]),
        "versions": output.versions(),
        "device": output.device(),
    }
    found = weaknesses(result, shown)
    for warning in found:
        reporter.warn(warning)
    result["warnings"] = [*job.notes, *found]
    result["timings"] = timings([*times, spent], time.perf_counter() - began)
    _write(job, shown, result)
    return result


def draw(
    cascade: Cascade,
    params: Params,
    fit: Fit,
    etas: Sequence[float],
    settings: EditSettings,
    ahead: Ahead,
    reporter: Reporter,
    stop: StopFlag,
) -> tuple[Float[np.ndarray, "e s h w 3"], StageTime]:
    """Renders with progress: pictures in [-1, 1] by eta and seed, and the time it took."""
    spent = StageTime("rendering")
    batches = math.ceil(len(etas) * len(settings.seeds) / settings.sampling.batch)
    progress = reporter.stage("rendering", batches * len(cascade.stages))
    began = time.perf_counter()

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

    with counted() as compiled:
        drawn = imagic.render(
            cascade,
            params,
            fit,
            etas,
            settings.seeds,
            settings.sampling,
            before_stage=before_stage,
            on_batch=on_batch,
        )
    spent.total_s = time.perf_counter() - began
    spent.compile_s += compiled.seconds
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


def _write(job: RenderJob, shown: Float[np.ndarray, "e s h w 3"], result: dict[str, Any]) -> None:
    """Pictures, strip and page; result.json last, as the sign that all is there."""
    out = job.out
    images = np.empty(shown.shape[:2], object)
    for e, eta in enumerate(result["etas"]):
        for s, seed in enumerate(result["seeds"]):
            images[e, s] = pictures.to_pil(shown[e, s])
            row = {"eta": eta, "seed": seed, "file": f"edited_eta{eta:g}_seed{seed}.png"}
            output.save_picture(images[e, s], out / row["file"])
            if job.source is not None:
                row["pasted"] = f"pasted_eta{eta:g}_seed{seed}.png"
                whole = pictures.paste_back(job.source, shown[e, s])
                output.save_picture(whole, out / row["pasted"])
            result["outputs"].append(row)
    square = pictures.to_pil(job.square)
    output.save_picture(square, out / "input.png")
    title = f"{RANDOM}: {result['text']}" if result["random_weights"] else result["text"]
    strip = eta_strip(square, images, result["etas"], result["seeds"], title)
    output.save_picture(strip, out / "strip.png")
    command = f"imagic render --fit={out / 'fit'} --eta=0.5,0.75,1 --seeds=0,1"
    output.write_text(out / "index.html", edit_page(square, images, result, command))
    output.write_text(out / "result.json", json.dumps(result, indent=2) + "\n")


def read_square(path: Path) -> Float[np.ndarray, "s s 3"]:
    """The input square that is kept beside a fit, [-1, 1].

    Raises:
        UserError: it is missing or broken.
    """
    try:
        with pil.open(path) as opened:
            return np.asarray(opened.convert("RGB"), np.float32) / 127.5 - 1.0
    except OSError as error:
        raise UserError(f"{path} is missing or broken; fit the picture again") from error
