"""What every metric of the catalog computes, under which options."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from imagic_jax.metrics import clip, dino, lpips, pie, psnr, ssim
from imagic_jax.metrics.metric import Metric, Seen, chunked
from imagic_jax.metrics.networks import CLIP_B32, CLIP_L14, Networks
from imagic_jax.typing import Array

_REGIONS = ("background", "edited")
_PREFIX = clip.CLIPSCORE_PREFIX

_psnr = jax.jit(functools.partial(psnr.psnr, peak=1.0))
_masked_psnr = jax.jit(functools.partial(psnr.masked_psnr, peak=1.0))
_mse, _masked_mse = jax.jit(psnr.mse), jax.jit(psnr.masked_mse)
_ssim, _masked_ssim = jax.jit(ssim.ssim), jax.jit(ssim.masked_ssim)
_pie_psnr, _pie_mse, _pie_ssim = (jax.jit(f) for f in (pie.pie_psnr, pie.pie_mse, pie.pie_ssim))
_lpips, _masked_lpips, _pie_lpips = (
    jax.jit(f, static_argnums=0) for f in (lpips.lpips, lpips.masked_lpips, pie.pie_lpips)
)


def pixel_metrics() -> list[Metric]:
    """MSE, PSNR and SSIM, of whole pictures and of regions."""
    gauss = {"window": "gauss11-1.5", "k": "0.01/0.03", "covariance": "population"}
    peak = {"peak": "1", "cap": "100dB"}
    whole = [
        Metric("mse", {"range": "0..1"}, _of_pairs(_mse), higher=False),
        Metric("psnr", peak, _of_pairs(_psnr)),
        Metric("ssim", gauss | {"edges": "valid"}, _of_pairs(_ssim)),
    ]
    for region in _REGIONS:
        at = {"region": region}
        whole += [
            _of_region("mse", at | {"range": "0..1"}, _masked_mse, region, higher=False),
            _of_region("psnr", at | peak, _masked_psnr, region),
            _of_region("ssim", at | gauss | {"erosion": "5"}, _masked_ssim, region),
        ]
    return whole


def _of_pairs(score: Callable, region: str | None = None) -> Callable[[Seen], Array]:
    """A function of two pictures, and a region if one is named, as one of what is seen."""

    def run(s: Seen) -> Array:
        regions = () if region is None else (s.region(region),)
        return chunked(score, *s.both(), *regions)

    return run


def _of_region(
    name: str, options: dict[str, str], score: Callable, region: str, higher: bool = True
) -> Metric:
    """A metric of two pictures and a region."""
    return Metric(
        f"{name}_{region}",
        options,
        _of_pairs(score, region),
        ("reference", "mask"),
        higher,
    )


def lpips_metrics(net: Any) -> list[Metric]:
    """LPIPS of one trunk, of whole pictures and of regions."""
    options = {"net": net, "version": "0.1", "range": "-1..1"}

    def score(masked: str | None) -> Callable[[Seen], Array]:
        def run(s: Seen) -> Array:
            network = s.networks.lpips(net)
            given = [2.0 * pictures - 1.0 for pictures in s.both()]
            if masked is None:
                return chunked(functools.partial(_lpips, *network), *given)
            return chunked(functools.partial(_masked_lpips, *network), *given, s.region(masked))

        return run

    def load(networks: Networks) -> Any:
        return networks.lpips(net)

    found = [Metric(f"lpips_{net}", options, score(None), higher=False, load=load)]
    for region in _REGIONS:
        where = options | {"region": region, "dilation": "0"}
        name, needs = f"lpips_{net}_{region}", ("reference", "mask")
        found.append(Metric(name, where, score(region), needs, False, load))
    return found


def _clip_metric(
    score: Callable[[Seen, str], Array],
    needs: tuple[str, ...],
    text: str | None,
    undefined: str = "",
) -> Callable[[str, str], Metric]:
    """(name, model) -> a metric of that CLIP pair."""

    def build(name: str, model: str) -> Metric:
        size = "224" if model in (CLIP_L14, CLIP_B32) else ""
        options = {"model": Path(model).name, "resize": f"pil-bicubic-short{size}-crop"}
        options |= {} if text is None else {"text": text}
        return Metric(
            name,
            options,
            lambda s: score(s, model),
            needs,
            load=lambda networks: networks.clip(model),
            undefined=undefined,
        )

    return build


def _direction(s: Seen, model: str) -> Array:
    return clip.clip_dir(
        s.image(model, "reference"),
        s.image(model, "output"),
        s.text(model, "source_text"),
        s.text(model, "text"),
    )


CLIP_METRICS: dict[str, Callable[[str, str], Metric]] = {
    "clip_cos": _clip_metric(
        lambda s, m: clip.clip_cos(s.image(m, "output"), s.text(m, "text")), ("text",), "raw"
    ),
    "clipscore_w2.5": _clip_metric(
        lambda s, m: clip.clipscore_w2_5(s.image(m, "output"), s.text(m, "text", _PREFIX)),
        ("text",),
        "A-photo-depicts",
    ),
    "clipscore_100": _clip_metric(
        lambda s, m: clip.clipscore_100(s.image(m, "output"), s.text(m, "text")), ("text",), "raw"
    ),
    "clip_i": _clip_metric(
        lambda s, m: clip.clip_i(s.image(m, "reference"), s.image(m, "output")),
        ("reference",),
        None,
    ),
    "clip_dir": _clip_metric(
        _direction,
        ("reference", "text", "source_text"),
        "raw",
        "the picture or the text did not change",
    ),
}
"""{name: (full name, model) -> metric}."""

DEFAULT_PAIRS = dict.fromkeys(CLIP_METRICS, CLIP_L14) | {"clipscore_w2.5": CLIP_B32}
"""The pairs with which the field uses them."""


def dino_metrics() -> list[Metric]:
    """Structure distance, PIE-Bench's variant of it, and likeness of class tokens."""
    structure = {"net": "dino-vitb8", "keys": "block11", "range": "0..1"}
    compat = structure | {"resize": "bilinear224", "range": "0..255"}

    def distance(how: str) -> Callable[[Seen], Array]:
        return lambda s: dino.structure_distance(
            s.dino("vitb8", "reference", how).keys, s.dino("vitb8", "output", how).keys
        )

    def load(name: str) -> Callable[[Networks], Any]:
        return lambda networks: networks.dino(name)

    structure |= {"resize": "bilinear224-antialias"}
    b8, options = load("vitb8"), {"net": "dino-vits16", "resize": "pil-bicubic-short256-crop224"}
    return [
        Metric("dino_struct", structure, distance("structure"), higher=False, load=b8),
        Metric("pie_structure", compat, distance("pie"), higher=False, load=b8),
        Metric(
            "dino_i",
            options,
            lambda s: dino.dino_i(
                s.dino("vits16", "reference", "crop").cls, s.dino("vits16", "output", "crop").cls
            ),
            load=load("vits16"),
        ),
    ]


def pie_metrics() -> list[Metric]:
    """PIE-Bench's, over the background; its structure distance is among DINO's."""
    fill = {"region": "background", "fill": "zero", "mean": "frame"}
    size = {"model": CLIP_L14, "resize": "pil-bicubic-short224-crop", "text": "raw"}
    needs = ("reference", "mask")

    def with_squeeze(s: Seen) -> Array:
        run = functools.partial(_pie_lpips, *s.networks.lpips("squeeze"))
        return chunked(run, *s.both(), s.region("background"))

    def of_edited(s: Seen) -> Array:
        score = clip.clipscore_100(s.image(CLIP_L14, "edited"), s.text(CLIP_L14, "text"))
        return jnp.where(s.region("edited").sum(axis=(1, 2)) > 0, score, jnp.nan)

    def pair(networks: Networks) -> Any:
        return networks.clip(CLIP_L14)

    squeeze = fill | {"net": "squeeze", "version": "0.1"}
    return [
        Metric("pie_psnr", fill, _of_pairs(_pie_psnr, "background"), needs),
        Metric("pie_mse", fill, _of_pairs(_pie_mse, "background"), needs, False),
        Metric("pie_ssim", fill | {"edges": "reflect"}, _of_pairs(_pie_ssim, "background"), needs),
        Metric(
            "pie_lpips",
            squeeze,
            with_squeeze,
            needs,
            False,
            lambda networks: networks.lpips("squeeze"),
        ),
        Metric("pie_clip_edited", size | {"fill": "zero"}, of_edited, ("mask", "text"), load=pair),
    ]
