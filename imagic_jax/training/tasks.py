"""What is trained: a task knows its parameters and the loss of one drawn batch.

As in Imagen, the text encoder is trained on text alone and then frozen: `TextTask` teaches it to
tell what a caption names. `StageTask` teaches one diffusion stage under the frozen encoder. The
base sees pictures without identity marks, so that no caption can make it draw one; the
super-resolution stages see marks, because they must not garble what they are given.
"""

import dataclasses
import re
from typing import Any, Protocol, runtime_checkable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.backbones.text import states
from imagic_jax.models import T5Encoder
from imagic_jax.training.data import CaptionTable, draw_batch, draw_captions
from imagic_jax.typing import Params

#: Layers that end a residual branch: starting them at zero makes the network start as identity.
_ZERO_AT_START = re.compile(r"(conv2|conv_out|to_out_0)/kernel$")


@runtime_checkable
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextTask:
    """The text encoder, by telling what captions name.

    A linear head per factor reads the mean over all rows of the states, padding included: the
    diffusion stages pool the same rows. "Not named" is a value of its own.

    Attributes:
        sizes: number of values per factor, in the order of `CaptionTable.named`.
    """

    text: T5Encoder
    batch: int
    sizes: tuple[int, ...]

    def init(self, key: PRNGKeyArray, table: CaptionTable) -> Params:
        text_key, *head_keys = jax.random.split(key, 1 + len(self.sizes))
        ids, mask = table.null_ids[None], table.null_mask[None]
        width = self.text.config.d_model
        heads = {
            str(i): nn.initializers.lecun_normal()(k, (width, 1 + size))
            for i, (k, size) in enumerate(zip(head_keys, self.sizes, strict=True))
        }
        return {"text": jax.jit(self.text.init)(text_key, ids, mask)["params"], "heads": heads}

    def loss(
        self, params: Params, frozen: Any, table: CaptionTable, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        del frozen
        captions = draw_captions(table, key, self.batch, 0.0)
        pooled = states(self.text, params["text"], captions.ids, captions.mask).mean(axis=1)
        losses = [
            cross_entropy(pooled @ params["heads"][str(i)], captions.named[:, i] + 1)
            for i in range(len(self.sizes))
        ]
        return jnp.mean(jnp.stack(losses))


def cross_entropy(logits: Float[Array, "b k"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """Mean cross-entropy of integer labels."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTask:
    """One diffusion stage; `frozen` are the text encoder's parameters."""

    stage: UNetStage
    text: T5Encoder
    batch: int
    mark_share: float
    text_dropout: float
    oversample: int

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
        x0 = self.stage.prepare(params, batch.image)
        low_res = None if self.stage.low_res is None else batch.image
        return self.stage.batch_loss(params, x0, cond, low_res, loss_key)


def init_stage(stage: UNetStage, key: PRNGKeyArray, empty: Float[Array, "1 l d"]) -> Params:
    """Fresh parameters of a stage's UNet; `empty` are text states of the right shape."""
    config = stage.unet.config
    side = stage.size // stage.codec.factor
    level = None if stage.low_res is None else jnp.zeros((1,), jnp.int32)
    sample = jnp.zeros((1, side, side, config.in_channels))
    t = jnp.zeros((1,), jnp.int32)
    variables = jax.jit(stage.unet.init)(key, sample, t, empty, class_labels=level)
    return zero_residuals(variables["params"])


def zero_residuals(params: Params) -> Params:
    """Sets the last layer of every residual branch to zero."""

    def change(path, a):
        name = "/".join(k.key for k in path)
        return jnp.zeros_like(a) if _ZERO_AT_START.search(name) else a

    return jax.tree_util.tree_map_with_path(change, params)
