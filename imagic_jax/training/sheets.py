"""Sample sheets: what a model in training draws now, always from the same noise."""

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as pil

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import draw, seed_keys
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.backbones.text import states
from imagic_jax.diffusion.schedule import padded_grid
from imagic_jax.report.strips import enlarge, grid
from imagic_jax.training.data import CaptionTable, draw_batch
from imagic_jax.training.tasks import StageTask
from imagic_jax.typing import Params

CAPTIONS = (
    "a red dog standing",
    "a sitting dog in the snow",
    "a blue bird spreading its wings",
    "a bird with folded wings on a beach",
    "a pencil sketch of a yellow car",
    "a convertible at night",
    "a birthday cake with candles",
    "a pistachio cake in a meadow",
    "a purple ball on a beach",
    "a pink flower in bloom in the snow",
    "a flower in bud",
    "a jumping dog wearing a hat at night",
)
_ROWS, _STEPS, _GUIDANCE = 2, 30, 3.0


def _picture(array: np.ndarray) -> pil.Image:
    return pil.fromarray(((np.asarray(array) + 1.0) * 127.5).round().clip(0, 255).astype(np.uint8))


def sheet(task: StageTask, params: Params, text: Params, table: CaptionTable, tokens) -> pil.Image:
    """What a stage draws: `CAPTIONS` for a base, sharpened pictures for super-resolution.

    Args:
        task: the stage.
        params: its (averaged) parameters.
        text: the text encoder's parameters.
        table: captions, for pictures to sharpen.
        tokens: (ids, mask) of `CAPTIONS` and of the empty caption.
    """
    if task.stage.low_res is None:
        return _base_sheet(task, params, text, *tokens)
    return _super_resolution_sheet(task, params, text, table)


def _base_sheet(task: StageTask, params: Params, text: Params, captions, null) -> pil.Image:
    """`CAPTIONS`, two seeds each."""
    count = len(CAPTIONS) * _ROWS

    def encode(tokens) -> Cond:
        ids, mask = (jnp.tile(jnp.asarray(a), (count // len(a), 1)) for a in tokens)
        return Cond(states(task.text, text, ids, mask))

    pictures = _draw(task.stage, params, encode(captions), encode(null), None, count, _GUIDANCE)
    rows = [
        [enlarge(_picture(p), 96) for p in pictures[r * len(CAPTIONS) : (r + 1) * len(CAPTIONS)]]
        for r in range(_ROWS)
    ]
    return grid(rows, [c.removeprefix("a ")[:16] for c in CAPTIONS])


def _super_resolution_sheet(
    task: StageTask, params: Params, text: Params, table: CaptionTable
) -> pil.Image:
    """Low-resolution inputs, what the stage makes of them, and the truth."""
    batch = draw_batch(
        table,
        jax.random.key(7),
        12,
        task.stage.size,
        mark_share=task.mark_share,
        text_dropout=0.0,
        oversample=task.oversample,
    )
    cond = Cond(states(task.text, text, batch.ids, batch.mask))
    made = _draw(task.stage, params, cond, cond, batch.image, 12, None)
    side = task.stage.low_res_size or task.stage.size
    low = jax.image.resize(batch.image, (12, side, side, 3), "linear")
    rows = [[enlarge(_picture(p), 128) for p in part] for part in (low, made, batch.image)]
    return grid(rows, [""] * 12, ("input", "made", "truth"))


def _draw(
    stage: UNetStage,
    params: Params,
    cond: Cond,
    null: Cond,
    low_res,
    count: int,
    guidance: float | None,
) -> np.ndarray:
    levels, num_steps = padded_grid(stage.schedule, _STEPS)
    return np.asarray(
        draw(
            stage,
            params,
            cond,
            null,
            low_res,
            seed_keys(range(count), 0),
            jnp.float32(guidance or 1.0),
            levels,
            num_steps,
            guided=guidance is not None,
            sampler="ddim",
        )
    )
