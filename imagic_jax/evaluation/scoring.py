"""Scores of outputs of one benchmark item, read by analysis-by-synthesis (evaluation: 4.5-4.6)."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.evaluation.items import Item
from imagic_jax.flatland import captions, reader
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors
from imagic_jax.metrics.psnr import masked_psnr, psnr

#: Gates of a valid output: explained by the world at all, and decided between source and ideal.
MOST_RESIDUAL = 0.01
MOST_UNDECIDED = 0.2
LEAST_IDENTITY = 5 / 6
#: A pixel belongs to the edit where source and ideal differ by more, and two pixels around.
_CHANGED, _MARGIN = 4 / 255, 2


class Score(NamedTuple):
    """Scores of one output."""

    seen: dict[str, str]  # the factors that were read
    success: bool  # the text is true of what was read, and the output is valid
    read_success: bool  # the same without the gates
    preservation: float  # share of the factors that the edit leaves alone and that stayed
    identity: float  # share of the mark's bits recovered
    joint: bool  # success, everything preserved, identity >= 5/6
    read_joint: bool  # the same without the gates
    residual: float
    undecided: float
    background_psnr: float  # dB, outside the edit; NaN where the edit is everywhere
    source_psnr: float  # dB against the source: the reconstruction at eta = 0


def score(item: Item, outputs: Float[np.ndarray, "n 64 64 3"]) -> list[Score]:
    """Scores outputs, (n, 64, 64, 3) in [0, 1], that were all made from `item`'s source."""
    u = item.nuisance()
    source, ideal = item.pictures()
    readings = reader.read(outputs, u, reader.candidates(item.source, item.target))
    undecided = reader.decided(outputs, source, ideal)
    many = jnp.asarray(outputs, jnp.float32)
    same = jnp.broadcast_to(jnp.asarray(source, jnp.float32), many.shape)
    background = background_mask(source, ideal)
    mask = jnp.broadcast_to(jnp.asarray(background, jnp.float32), many.shape[:3])
    outside = np.asarray(masked_psnr(many, same, mask, peak=1.0))
    whole = np.asarray(psnr(many, same, peak=1.0))
    scores = []
    for i, reading in enumerate(readings):
        bits = reader.read_mark(np.asarray(outputs[i]), reading, u)
        identity = float((bits == np.asarray(u.mark)).mean())
        valid = reading.residual <= MOST_RESIDUAL and undecided[i] <= MOST_UNDECIDED
        scores.append(
            Score(
                **judge(item, reading.factors, identity, bool(valid)),
                identity=identity,
                residual=float(reading.residual),
                undecided=float(undecided[i]),
                background_psnr=float(outside[i]) if background.mean() >= 0.1 else float("nan"),
                source_psnr=float(whole[i]),
            )
        )
    return scores


def judge(item: Item, seen: Factors, identity: float, valid: bool) -> dict[str, Any]:
    """What the factors that were read say about an edit: the fields of `Score` about factors."""
    edited = set(fx.changed(item.source, item.target))
    kept = [n for n in fx.FACTOR_NAMES if n not in edited]
    same = [int(getattr(seen, n)) == int(getattr(item.source, n)) for n in kept]
    right = bool(captions.satisfies(seen, captions.parse(item.text)))
    kept_all = all(same) and identity >= LEAST_IDENTITY - 1e-6
    return {
        "seen": fx.describe(seen),
        "success": right and valid,
        "read_success": right,
        "preservation": float(np.mean(same)),
        "joint": right and valid and kept_all,
        "read_joint": right and kept_all,
    }


def background_mask(
    source: Float[np.ndarray, "h w 3"], ideal: Float[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "h w"]:
    """1 where the edit must leave the picture alone: the complement of the dilated change."""
    changed = np.abs(source - ideal).max(-1) > _CHANGED
    grown = changed.copy()
    for dy in range(-_MARGIN, _MARGIN + 1):
        for dx in range(-_MARGIN, _MARGIN + 1):
            grown |= np.roll(changed, (dy, dx), (0, 1))
    return 1.0 - grown.astype(np.float32)


def to_reading_size(pictures: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n 64 64 3"]:
    """Model outputs in [-1, 1], of any multiple of 64 pixels, as the reader wants them."""
    n, height, *_ = pictures.shape
    k = height // reader.SIZE
    blocks = np.asarray(pictures, np.float32).reshape(n, reader.SIZE, k, reader.SIZE, k, 3)
    return np.clip((blocks.mean(axis=(2, 4)) + 1.0) / 2.0, 0.0, 1.0)


def as_row(item: Item, s: Score, **where: Any) -> dict[str, Any]:
    """One line of the per-item JSONL."""
    return {
        "item": item.name,
        "edit": item.edit,
        "split": item.split,
        "text": item.text,
        **where,
        **s._asdict(),
    }
