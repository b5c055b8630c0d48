"""Several methods on several pictures, and one page of all results: what `imagic compare` does.

Every edit is a folder as `imagic edit` leaves it, OUT/PICTURE/METHOD, so that what is finished is
kept when the same command is given again, and each can be drawn again by `imagic render`.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from PIL import Image as pil

from imagic_jax.backbones.registry import Opened
from imagic_jax.jobs import edit as job
from imagic_jax.jobs import output, pictures
from imagic_jax.jobs.edit import EditRequest
from imagic_jax.jobs.masks import MaskSource
from imagic_jax.jobs.work import Work
from imagic_jax.metrics.psnr import masked_psnr
from imagic_jax.report.comparison import Entry, Panel, Shown, comparison_page
from imagic_jax.runtime.interrupt import StopFlag
from imagic_jax.runtime.progress import Reporter


class Case(NamedTuple):
    """One picture, and what is wanted of it."""

    image: Path
    text: str
    source_text: str = ""
    mask: MaskSource | None = None
    concepts: tuple[Any, ...] = ()  # ConceptText

    def folder(self, index: int) -> str:
        """The name of its folder, the `index`-th of a comparison."""
        return f"{index + 1:02d}-{output.default_folder(self.image.stem, '').name}"

    @property
    def given(self) -> tuple[Any, ...]:
        """The values of `method_work.FLAGS`: what is false was not given."""
        return self.source_text, self.concepts, self.mask, None


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareRequest:
    """What the user asked for.

    Attributes:
        cases: the pictures.
        names: the methods, in the order of the page.
        work: (method, case) -> its work on the opened model.
        edit: (case, folder, work) -> the edit.
        out: where everything goes.
        preset: its name.
        crop: see `EditRequest`.
    """

    cases: tuple[Case, ...]
    names: tuple[str, ...]
    work: Callable[[str, Case], Work]
    edit: Callable[[Case, Path, Work], EditRequest]
    out: Path
    preset: str
    crop: str = "center"


def spread(strengths: Sequence[float], count: int) -> tuple[float, ...]:
    """`count` of a method's strengths, evenly over its range, the strongest included."""
    if count >= len(strengths):
        return tuple(strengths)
    at = np.linspace(0, len(strengths) - 1, count + 1)[1:].round().astype(int)
    return tuple(dict.fromkeys(strengths[i] for i in at))


def compare(
    request: CompareRequest, opened: Opened, reporter: Reporter, stop: StopFlag
) -> dict[str, Any]:
    """Edits every picture by every method; returns what compare.json holds.

    Raises:
        UserError: a picture, mask or folder cannot be used.
        Interrupted: stopped on request; what is finished is kept.
        NonFiniteLoss: an optimisation diverged.
    """
    panels, records = [], []
    for i, case in enumerate(request.cases):
        place = request.out / case.folder(i)
        source = pictures.load_source(case.image, opened.cascade.size, request.crop)
        mask = None if case.mask is None else case.mask.load(source, case.text)[0]
        entries = []
        for name in request.names:
            reporter.say(f"{case.image} by {name}, for “{case.text}”")
            work = request.work(name, case)
            result = job.edit(request.edit(case, place / name, work), opened, reporter, stop)
            entries.append(entry(place / name, result, source.square[0], mask))
        beside = {"input": pictures.to_pil(source.square[0])}
        if mask is not None:
            beside["mask"] = pictures.grey(mask)
        panels.append(Panel(case.text, _said(case), beside, tuple(entries)))
        records.append(
            {
                "image": str(case.image),
                "text": case.text,
                "source_text": case.source_text,
                "concepts": [str(c) for c in case.concepts],
                "mask": "" if case.mask is None else str(case.mask),
                "methods": {e.name: e.numbers() for e in entries},
            }
        )
    found = {
        "model": opened.card["name"],
        "random_weights": opened.random,
        "preset": request.preset,
        "pictures": records,
        "versions": output.versions(),
        "device": output.device(),
    }
    output.write_text(request.out / "index.html", comparison_page(panels, found))
    output.write_text(request.out / "compare.json", json.dumps(found, indent=2) + "\n")
    return found


def entry(
    folder: Path,
    result: Mapping[str, Any],
    square: Float[np.ndarray, "s s 3"],
    mask: Float[np.ndarray, "s s"] | None,
) -> Entry:
    """One finished edit as the page shows it; `mask` is 1 where the edit may happen."""
    rows, knob = result["outputs"], result["knob"]
    drawn = [_open(folder / r["file"]) for r in rows]
    kept = [None if mask is None else _outside(p, square, mask) for p in drawn]
    word = knob.replace("_", " ")
    seconds, used = result["timings"], [n for n in USED if result.get(n)]
    return Entry(
        name=result["method"],
        title=result["title"],
        paper=result["paper"],
        folder=folder.relative_to(folder.parent.parent).as_posix(),
        used=tuple(USED[n] for n in used),
        shown=tuple(
            Shown(
                f"{word} {r[knob]:g}",
                r["seed"],
                picture,
                r["input_psnr"],
                outside,
            )
            for r, picture, outside in zip(rows, drawn, kept, strict=True)
        ),
        fit_evaluations=result["evaluations"]["fit"],
        render_evaluations=tuple(result["evaluations"]["render"]),
        compile_s=seconds["compile_s"],
        fit_s=seconds["embed_s"] + seconds["finetune_s"] + seconds["invert_s"],
        picture_s=seconds["render_s"] / result["pictures_drawn"],
        warnings=tuple(result["warnings"]),
    )


#: What an edit may have been given beside picture and text: its key in result.json.
USED = {"source_text": "source text", "concepts": "concepts", "mask": "mask"}


def _said(case: Case) -> str:
    """What was given beside picture and text, in a line."""
    parts = [f"source text: “{case.source_text}”"] if case.source_text else []
    parts += [f"concepts: {', '.join(map(str, case.concepts))}"] if case.concepts else []
    parts += [f"mask: {case.mask}"] if case.mask is not None else []
    return "; ".join(parts)


def _open(path: Path) -> pil.Image:
    with pil.open(path) as opened:
        return opened.convert("RGB")


def _outside(
    picture: pil.Image, square: Float[np.ndarray, "s s 3"], mask: Float[np.ndarray, "s s"]
) -> float | None:
    """PSNR to the input where the mask is 0; None where that is (almost) nowhere."""
    outside = (mask < 0.5).astype(np.float32)
    if outside.mean() < 0.01:
        return None
    a = jnp.asarray(np.asarray(picture, np.float32) / 127.5 - 1.0)[None]
    return float(masked_psnr(a, jnp.asarray(square)[None], jnp.asarray(outside)[None])[0])
