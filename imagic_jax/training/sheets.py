"""Sample sheets: what a model in training draws now, always from the same noise."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image as pil

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import draw, seed_keys
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.diffusion.schedule import padded_grid
from imagic_jax.report.strips import enlarge, grid
from imagic_jax.training.data import CaptionTable, draw_batch
from imagic_jax.training.tasks import StageTask, Task, text_states
from imagic_jax.training.vae_task import VaeTask
from imagic_jax.typing import Params
from imagic_jax.weights.tokenizer import Tokenizer

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


@dataclasses.dataclass(frozen=True)
class Artist:
    """Draws the sheets of one training run.

    Attributes:
        task, frozen: what is trained, and what beside it is not.
        table: captions, for pictures that are given.
        tokenizer: for `CAPTIONS`.
    """

    task: Task
    frozen: Any
    table: CaptionTable
    tokenizer: Tokenizer

    def sheet(self, params: Params) -> pil.Image | None:
        """What `params` draw: `CAPTIONS` for a base; for super-resolution and autoencoders what
        they make of pictures; nothing for tasks without pictures."""
        match self.task:
            case VaeTask():
                return self._reconstructions(self.task, params)
            case StageTask(stage=UNetStage(low_res=None)):
                return self._samples(self.task, params)
            case StageTask():
                return self._sharpened(self.task, params)
        return None

    def _samples(self, task: StageTask, params: Params) -> pil.Image:
        """`CAPTIONS`, two seeds each."""
        count = len(CAPTIONS) * _ROWS

        def encode(texts: Sequence[str]) -> Cond:
            ids, mask = (jnp.tile(a, (count // len(texts), 1)) for a in self.tokenizer(texts))
            return Cond(text_states(task.text, self.frozen["text"], ids, mask))

        params = {**params, **self.frozen["stage"]}
        cond, null = encode(CAPTIONS), encode([""])
        pictures = _draw(task.stage, params, cond, null, None, count, _GUIDANCE)
        rows = [_row(p, 96) for p in np.split(pictures, _ROWS)]
        return grid(rows, [c.removeprefix("a ")[:16] for c in CAPTIONS])

    def _sharpened(self, task: StageTask, params: Params) -> pil.Image:
        """Low-resolution inputs, what the stage makes of them, and the truth."""
        batch = draw_batch(
            self.table,
            jax.random.key(7),
            12,
            task.stage.size,
            mark_share=task.mark_share,
            text_dropout=0.0,
            oversample=task.oversample,
        )
        cond = Cond(text_states(task.text, self.frozen["text"], batch.ids, batch.mask))
        params = {**params, **self.frozen["stage"]}
        made = _draw(task.stage, params, cond, cond, batch.image, 12, None)
        side = task.stage.low_res_size or task.stage.size
        low = jax.image.resize(batch.image, (12, side, side, 3), "linear")
        rows = [_row(part, 128) for part in (low, made, batch.image)]
        return grid(rows, [""] * 12, ("input", "made", "truth"))

    def _reconstructions(self, task: VaeTask, params: Params) -> pil.Image:
        """Pictures, and what comes back of them."""
        image = jax.jit(task.draw)(self.table, jax.random.key(7))[::2][:12]
        made: Any = jax.jit(task.vae.apply)({"params": params["vae"]}, image)
        rows = [_row(part, 128) for part in (image, made)]
        return grid(rows, [""] * len(image), ("truth", "made"))


def _row(pictures: Any, size: int) -> list[pil.Image]:
    return [enlarge(_picture(p), size) for p in np.asarray(pictures)]


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
