"""What is trained: a task knows its parameters and the loss of one drawn batch.

`BaseTask` learns the text encoder and the base model together, on pictures without identity marks
(so that no caption can make the model draw one). `SuperResolutionTask` learns one
super-resolution stage under the frozen encoder, on pictures with marks (it only sharpens what it
is given, and must not garble them).
"""

import dataclasses
import re
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.imagen import PixelStage
from imagic_jax.backbones.text import states
from imagic_jax.models import T5Encoder
from imagic_jax.training.data import CaptionTable, draw_batch
from imagic_jax.typing import Params

#: Layers that end a residual branch: starting them at zero makes the network start as identity.
_ZERO_AT_START = re.compile(r"(conv2|conv_out|to_out_0)/kernel$")


class Task(Protocol):
    """Implementations are frozen dataclasses: static structure of a training run."""

    @property
    def batch(self) -> int: ...

    def init(self, key: PRNGKeyArray, table: CaptionTable) -> Params:
        """Fresh parameters."""
        ...

    def loss(
        self, params: Params, frozen: Any, table: CaptionTable, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        """The loss of one batch, drawn from `key`."""
        ...


def zero_residuals(params: Params) -> Params:
    """Sets the last layer of every residual branch to zero."""

    def change(path, a):
        name = "/".join(k.key for k in path)
        return jnp.zeros_like(a) if _ZERO_AT_START.search(name) else a

    return jax.tree_util.tree_map_with_path(change, params)


def init_stage(stage: PixelStage, key: PRNGKeyArray, empty: Float[Array, "1 l d"]) -> Params:
    """Fresh parameters of a stage's UNet; `empty` are text states of the right shape."""
    config = stage.unet.config
    side = stage.size // stage.patch_size
    level = None if stage.low_res is None else jnp.zeros((1,), jnp.int32)
    sample = jnp.zeros((1, side, side, config.in_channels))
    t = jnp.zeros((1,), jnp.int32)
    variables = jax.jit(stage.unet.init)(key, sample, t, empty, class_labels=level)
    return zero_residuals(variables["params"])


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseTask:
    """Text encoder and base stage, learnt together."""

    stage: PixelStage
    text: T5Encoder
    batch: int
    text_dropout: float = 0.12
    oversample: int = 2

    def init(self, key: PRNGKeyArray, table: CaptionTable) -> Params:
        text_key, unet_key = jax.random.split(key)
        ids, mask = table.null_ids[None], table.null_mask[None]
        text = jax.jit(self.text.init)(text_key, ids, mask)["params"]
        empty = states(self.text, text, ids, mask)
        return {"text": text, "unet": init_stage(self.stage, unet_key, empty)}

    def loss(
        self, params: Params, frozen: Any, table: CaptionTable, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        del frozen
        draw_key, loss_key = jax.random.split(key)
        batch = draw_batch(
            table,
            draw_key,
            self.batch,
            self.stage.size,
            mark_share=0.0,
            text_dropout=self.text_dropout,
            oversample=self.oversample,
        )
        cond = Cond(states(self.text, params["text"], batch.ids, batch.mask))
        x0 = self.stage.prepare(params["unet"], batch.image)
        return self.stage.batch_loss(params["unet"], x0, cond, None, loss_key)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SuperResolutionTask:
    """One super-resolution stage; `frozen` is the trained text encoder."""

    stage: PixelStage
    text: T5Encoder
    batch: int
    text_dropout: float = 0.12
    mark_share: float = 0.75
    oversample: int = 1

    def init(self, key: PRNGKeyArray, table: CaptionTable) -> Params:
        empty = jnp.zeros((1, table.null_ids.shape[0], self.text.config.d_model))
        return {"unet": init_stage(self.stage, key, empty)}

    def loss(
        self, params: Params, frozen: Any, table: CaptionTable, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        draw_key, loss_key = jax.random.split(key)
        batch = draw_batch(
            table,
            draw_key,
            self.batch,
            self.stage.size,
            mark_share=self.mark_share,
            text_dropout=self.text_dropout,
            oversample=self.oversample,
        )
        cond = Cond(states(self.text, frozen, batch.ids, batch.mask))
        x0 = self.stage.prepare(params["unet"], batch.image)
        return self.stage.batch_loss(params["unet"], x0, cond, batch.image, loss_key)
