"""tau, the bound of the on-manifold gate (evaluation: 4.5 C): frozen before any editor is run.

The 99th percentile of rho over plain samples of the base model, each from a caption that names all
its factors. Their nuisance is fitted freely at 32 pixels; rho is then read at 64 like that of an
edit, so that both are the same number.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.registry import Loaded
from imagic_jax.errors import UserError
from imagic_jax.evaluation.fidelity import draws_marks, to_free_size
from imagic_jax.evaluation.scoring import GATES, SCORES_ID, Gates, to_reading_size
from imagic_jax.flatland import captions, free_reader, reader, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.jobs import output
from imagic_jax.jobs.sample import draw_texts
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.progress import Reporter

QUANTILE = 0.99
FROZEN = Path(__file__).parent / "frozen_gates"  # one file per model


def full_captions(count: int) -> list[str]:
    """Captions of the training combinations that name every factor."""
    texts = []
    for i in range(count):
        rng = random.Random(f"gates/{i}")
        f = splits.draw_factors(rng, i % len(fx.CLASSES))
        texts.append(captions.caption(f, captions.nameable_factors(f), rng))
    return texts


def residuals(pictures: Float[np.ndarray, "n h w 3"], *, marks: bool) -> Float[np.ndarray, " n"]:
    """rho of pictures in [-1, 1] whose nuisance nobody knows; `marks`: they may carry marks."""
    readings = free_reader.read_free(to_free_size(pictures), marks=marks)
    found = []
    for picture, free in zip(to_reading_size(pictures), readings, strict=True):
        options = reader.candidates(free.factors, free.factors)
        (read,) = reader.read(np.clip(picture[None], 0.0, 1.0), free.nuisance, options)
        found.append(read.residual)
    return np.array(found)


def measure(
    loaded: Loaded, settings: EditSettings, count: int, reporter: Reporter
) -> dict[str, Any]:
    """Draws `count` samples and takes tau: what a gate file holds."""
    texts = full_captions(count)
    drawn = draw_texts(loaded, texts, "", settings, reporter)
    reporter.say(f"reading {len(drawn)} pictures")
    rho = residuals(np.asarray(drawn), marks=draws_marks(loaded.card))
    return about(rho, loaded.opened.fingerprint(), str(loaded.card["name"]))


def about(rho: Float[np.ndarray, " n"], fingerprint: str, model: str) -> dict[str, Any]:
    """What a gate file holds, from the residuals of samples."""
    return {
        "model": model,
        "fingerprint": fingerprint,
        "samples": len(rho),
        "quantile": QUANTILE,
        "residual": float(np.quantile(rho, QUANTILE)),
        "residual_median": float(np.median(rho)),
        "undecided": GATES.undecided,
        "scores": SCORES_ID,
    }


def freeze(found: dict[str, Any], path: Path) -> None:
    """Writes a gate file.

    Raises:
        UserError: the model's gate was frozen before, at another value.
    """
    if path.is_file() and _read(path) != found:
        raise UserError(
            f"{path} holds a gate that was frozen before (residual {_read(path)['residual']:.5f},"
            f" now {found['residual']:.5f}); results read with it would no longer compare: remove"
            " it first"
        )
    output.write_text(path, json.dumps(found, indent=2) + "\n")


def gates_for(fingerprint: str, file: Path | None = None) -> tuple[Gates, list[str]]:
    """The gates for a model: of `file`, else the frozen ones of these weights, else the default.

    Returns:
        The gates, and notes about them.

    Raises:
        UserError: the file is no gate file, or of other weights.
    """
    if file is not None:
        found = _read(file)
        if found["fingerprint"] != fingerprint:
            raise UserError(f"--gate: {file} is of other weights ({found['model']})")
        return _gates(found), [_says(found)]
    for path in sorted(FROZEN.glob("*.json")):
        found = _read(path)
        if found["fingerprint"] == fingerprint:
            return _gates(found), [_says(found)]
    return GATES, [
        f"the gate was never measured for these weights: residual <= {GATES.residual:g}, the"
        " default (imagic evaluate --suite=gate measures and freezes it)"
    ]


def _gates(found: dict[str, Any]) -> Gates:
    return Gates(float(found["residual"]), float(found["undecided"]))


def _says(found: dict[str, Any]) -> str:
    return (
        f"gates: residual <= {found['residual']:.5f} ({found['quantile']:.0%} of"
        f" {found['samples']} plain samples of {found['model']}), q <= {found['undecided']:g}"
    )


def _read(path: Path) -> dict[str, Any]:
    needed: Sequence[str] = list(about(np.ones(1), "", ""))
    try:
        found = json.loads(path.read_text())
        lacking = [n for n in needed if n not in found]
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"--gate: {path} is no gate file ({error})") from error
    if lacking:
        raise UserError(f"--gate: {path} is no gate file: it lacks {', '.join(lacking)}")
    return found
