"""How far an output is from the ideal edit, in pixels (evaluation: 4.6, metrics 6-9).

x is the source, x* the ideal edit, y the output; d = x* - x is the edit that should be, e = y - x
the one that was made. None of these is a headline: copying the input is 19 dB from the ideal edit,
a cross-fade 25 dB, the perfect edit one pixel to the left 20 dB.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.flatland import reader
from imagic_jax.flatland.counterfactuals import background_mask
from imagic_jax.flatland.reader import Reading
from imagic_jax.metrics.psnr import masked_psnr, psnr
from imagic_jax.metrics.ssim import ssim

_LEAST_BACKGROUND = 0.1  # share of the frame; below it the edit is everywhere

_psnr = jax.jit(lambda x, y: psnr(x, y, peak=1.0))
_ssim = jax.jit(lambda x, y: ssim(x, y, peak=1.0))
_masked_psnr = jax.jit(lambda x, y, mask: masked_psnr(x, y, mask, peak=1.0))


class PixelScores(NamedTuple):
    """Scores of one output against the ideal edit nearest to it; NaN where there is no edit."""

    cf_psnr: float  # dB
    cf_psnr_registered: float  # dB, the output moved back by what it is off by
    cf_ssim: float
    cf_ssim_registered: float
    skill: float  # 1 - |y - x*|^2 / |x - x*|^2: 0 copy, 1 ideal, no lower bound
    skill_bounded: float  # (D - R) / (D + R) of the same: -1..1
    dose: float  # <e, d> / |d|^2: how much of the edit
    collateral: float  # |e - dose d|^2 / |d|^2: how much else
    cosine: float  # <e, d> / |e| |d|; NaN where nothing was done
    background_psnr: float  # dB outside the edit; NaN where the edit is everywhere
    source_psnr: float  # dB against the source


def pixel_scores(
    outputs: Float[np.ndarray, "n 64 64 3"],
    readings: list[Reading],
    source: Float[np.ndarray, "64 64 3"],
    ideals: Float[np.ndarray, "k 64 64 3"],
) -> list[PixelScores]:
    """Scores outputs of one source, all in [0, 1]."""
    error = np.square(outputs[:, None] - ideals[None]).sum(axis=(2, 3, 4))
    nearest = error.argmin(axis=1)
    goal = ideals[nearest]
    same = np.broadcast_to(source, outputs.shape)
    masks = np.stack([background_mask(source, x) for x in ideals])
    enough = masks.mean(axis=(1, 2)) >= _LEAST_BACKGROUND
    back, rimless = reader.registered(outputs, readings), reader.without_rim(goal)
    columns = [
        _compute(_psnr, outputs, goal),
        _compute(_psnr, back, rimless),
        _compute(_ssim, outputs, goal),
        _compute(_ssim, back, rimless),
        *_doses(outputs, source, goal),
        np.where(
            enough[nearest],
            _compute(_masked_psnr, outputs, same, masks[nearest]),
            np.nan,
        ),
        _compute(_psnr, outputs, same),
    ]
    return [PixelScores(*map(float, row)) for row in zip(*map(np.asarray, columns), strict=True)]


def _compute(score: Callable[..., jax.Array], *pictures: np.ndarray) -> np.ndarray:
    """One value per picture; their number is padded to a multiple of 8, so that few programs are
    compiled."""
    count = len(pictures[0])
    rows = np.minimum(np.arange(count + -count % 8), count - 1)
    return np.asarray(score(*(jnp.asarray(p[rows], jnp.float32) for p in pictures)))[:count]


def _doses(
    outputs: Float[np.ndarray, "n h w 3"],
    source: Float[np.ndarray, "h w 3"],
    goal: Float[np.ndarray, "n h w 3"],
) -> tuple[Float[np.ndarray, " n"], ...]:
    """(skill, bounded skill, dose, collateral, cosine), in float64."""
    count = len(outputs)
    e = (outputs.astype(np.float64) - source).reshape(count, -1)
    d = (goal.astype(np.float64) - source).reshape(count, -1)
    whole, rest = np.square(d).sum(1), np.square(e - d).sum(1)
    made, along = np.square(e).sum(1), (e * d).sum(1)
    whole = np.where(whole > 0, whole, np.nan)  # the split `null` asks for no edit
    dose = along / whole
    collateral = np.square(e - np.nan_to_num(dose)[:, None] * d).sum(1) / whole
    cosine = along / np.sqrt(np.where(made > 0, made, np.nan) * whole)
    return 1 - rest / whole, (whole - rest) / (whole + rest), dose, collateral, cosine
