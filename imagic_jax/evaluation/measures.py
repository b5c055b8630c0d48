"""The scores of the public benchmarks: a small protocol that every metric fits.

A `Measure` is a name that carries its whole configuration, and a function over a batch of edits.
Published numbers differ in networks, sizes and scalings; only equal ids may be compared
(evaluation: 3.7). PIE-Bench's own metrics multiply pictures by the mask and then average over the
whole frame; they are offered as `pie_compat` beside the true means over the region.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from imagic_jax.errors import UserError
from imagic_jax.metrics.psnr import masked_psnr, psnr


class Edits(NamedTuple):
    """A batch of edits, all pictures squares of one size in [0, 1]."""

    source: Float[np.ndarray, "n s s 3"]
    output: Float[np.ndarray, "n s s 3"]
    text: tuple[str, ...]
    source_text: tuple[str | None, ...]
    mask: Bool[np.ndarray, "n s s"] | None = None  # True where the edit belongs


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One score.

    Attributes:
        id: its name with everything that decides the number.
        title: the head of its column.
        compute: one score per edit; NaN where it is not defined.
        higher: whether larger is better.
        digits: shown after the point.
        masked: it needs masks.
        alignment: it tells how well the text is followed, so it may choose among several results.
    """

    id: str
    title: str
    compute: Callable[[Edits], Float[np.ndarray, " n"]]
    higher: bool = True
    digits: int = 2
    masked: bool = False
    alignment: bool = False


class Absent(NamedTuple):
    """A score that cannot be computed here, and the weights that it wants."""

    title: str
    wants: str


def source_psnr(edits: Edits) -> Float[np.ndarray, " n"]:
    """PSNR to the source over the whole picture, dB."""
    return np.asarray(psnr(jnp.asarray(edits.output), jnp.asarray(edits.source), peak=1.0))


def background_psnr(edits: Edits) -> Float[np.ndarray, " n"]:
    """PSNR to the source outside the mask, the true mean over those pixels, dB."""
    keep = jnp.asarray(_background(edits), jnp.float32)
    x, y = jnp.asarray(edits.output), jnp.asarray(edits.source)
    return np.asarray(masked_psnr(x, y, keep, peak=1.0))


def pie_psnr(edits: Edits) -> Float[np.ndarray, " n"]:
    """PIE-Bench's PSNR: masked to black, averaged over the whole frame; higher by the share of
    black pixels. NaN where nothing is background.
    """
    keep = _background(edits)[..., None]
    x, y = (jnp.asarray(p * keep) for p in (edits.output, edits.source))
    return _where_background(edits, np.asarray(psnr(x, y, peak=1.0)))


def pie_mse(edits: Edits) -> Float[np.ndarray, " n"]:
    """PIE-Bench's mean squared error outside the mask, times 10^4 as its tables print it."""
    keep = _background(edits)[..., None]
    square = np.square((edits.output - edits.source) * keep).mean(axis=(1, 2, 3))
    return _where_background(edits, 1e4 * square)


def _background(edits: Edits) -> Bool[np.ndarray, "n s s"]:
    if edits.mask is None:
        raise ValueError("this measure needs masks")
    return ~edits.mask


def _where_background(edits: Edits, values: np.ndarray) -> Float[np.ndarray, " n"]:
    return np.where(_background(edits).any(axis=(1, 2)), values, np.float32(np.nan))


#: What needs no weights.
PLAIN = (
    Measure(id="psnr_source", title="PSNR to source", compute=source_psnr),
    Measure(id="psnr_background", title="background PSNR", compute=background_psnr, masked=True),
    Measure(
        id="psnr_background{pie_compat}",
        title="background PSNR (pie_compat)",
        compute=pie_psnr,
        masked=True,
    ),
    Measure(
        id="mse_background{pie_compat}",
        title="background MSE x 10^4 (pie_compat)",
        compute=pie_mse,
        higher=False,
        masked=True,
    ),
)

#: What the field reports, and needs weights that this package does not bring.
NETWORKS = (
    Absent("CLIP score (ViT-L/14)", "openai/clip-vit-large-patch14: model.safetensors"),
    Absent("CLIP score (ViT-B/32)", "openai/clip-vit-base-patch32: model.safetensors"),
    Absent("LPIPS (alex)", "lpips v0.1 alex.pth, torchvision's alexnet-owt-7be5be79.pth"),
    Absent("LPIPS (squeeze)", "lpips v0.1 squeeze.pth, torchvision's squeezenet1_1-b8a52dc0.pth"),
    Absent("DINO structure distance", "facebookresearch/dino: dino_vitbase8_pretrain.pth"),
)


def known(*, masks: bool) -> tuple[list[Measure], list[Absent]]:
    """The measures of a benchmark with or without masks, and those whose weights are absent."""
    return [m for m in PLAIN if masks or not m.masked], list(NETWORKS)


def chooser(measures: Sequence[Measure], name: str | None) -> Measure | None:
    """The measure that picks the best of several results: `name`, else the first for alignment.

    Raises:
        UserError: there is no such measure.
    """
    if name is None:
        return next((m for m in measures if m.alignment), None)
    for measure in measures:
        if measure.id == name:
            return measure
    have = ", ".join(m.id for m in measures)
    raise UserError(f"--choose_by: there is no score {name!r} here (there are {have})")
