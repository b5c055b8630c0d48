"""Which scores a public benchmark shows, and which of them may choose among several results.

The scores are those of `metrics.catalog`, by identities that spell out their whole configuration:
published numbers differ in networks, sizes and scalings, and only equal identities may be compared.
PIE-Bench's own (`pie_*`) multiply pictures by the mask and average over the whole frame; the true
means over the region stand beside them.
"""

from collections.abc import Sequence
from pathlib import Path

from imagic_jax.errors import UserError
from imagic_jax.metrics import catalog
from imagic_jax.metrics.catalog import Opened
from imagic_jax.metrics.metric import Metric

_WHOLE = ("psnr", "ssim", "lpips_alex", "lpips_vgg", "clip_cos", "clipscore_w2.5", "clip_i")
#: Shown unless others are asked for, by whether the benchmark has source texts and masks.
WITHOUT_MASKS = (*_WHOLE, "dino_struct")
WITH_MASKS = (
    *("psnr", "ssim", "psnr_background", "ssim_background", "lpips_alex_background"),
    *("pie_structure", "pie_psnr", "pie_lpips", "pie_mse", "pie_ssim"),
    *("clipscore_100", "pie_clip_edited", "clip_dir"),
)
#: Metrics that tell how well a text is followed; the first that is there chooses unasked.
ALIGNMENT = ("clip_cos", "clipscore_100", "clipscore_w2.5", "clip_dir", "pie_clip_edited")


def open_for(names: Sequence[str] | None, *, masks: bool, weights: Path | None) -> Opened:
    """Opens the scores of a benchmark.

    Args:
        names: those asked for; None for the usual ones.
        masks: whether the benchmark has masks and source texts.
        weights: the folder of the networks' weights.

    Raises:
        UserError: an unknown name, one that needs masks or source texts where there are none, or
            none that can be computed.
    """
    usual = WITH_MASKS if masks else WITHOUT_MASKS
    opened = catalog.open_metrics(usual if names is None else names, weights)
    for metric in opened.metrics:
        lacking = {"mask", "source_text"} & set(metric.needs)
        if lacking and not masks:
            raise UserError(f"--metrics: {metric.name} needs what this benchmark does not give")
    if not opened.metrics:
        missing = "; ".join(f"{n}: {w}" for n, w in opened.missing.items())
        raise UserError(f"--metrics: none can be computed ({missing})")
    return opened


def chooser(metrics: Sequence[Metric], name: str | None) -> Metric | None:
    """The metric that picks the best of several results: `name`, else the first for alignment.

    Raises:
        UserError: there is no such metric here.
    """
    by_name = {m.name: m for m in metrics}
    if name is None:
        found = (m for m in metrics if m.name.partition("@")[0] in ALIGNMENT)
        return next(found, None)
    if name not in by_name:
        raise UserError(f"--choose_by: no score {name!r} here (there are {', '.join(by_name)})")
    return by_name[name]
