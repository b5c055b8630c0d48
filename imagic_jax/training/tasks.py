"""What is trained: a task knows its parameters and the loss of one drawn batch.

As in Imagen, the text encoder is trained on text alone and then frozen: `TextTask` teaches it to
tell what a caption names. `StageTask` teaches one diffusion stage under the frozen encoder. The
base sees pictures without identity marks, so that no caption can make it draw one; the
super-resolution stages see marks, because they must not garble what they are given. What a latent
model needs beside is in `clip_task` and `vae_task`.
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
from imagic_jax.models import CLIPTextModel, T5Encoder
from imagic_jax.training.data import CaptionTable, draw_batch, draw_captions
from imagic_jax.typing import Params, TextMask, TextStates, Tokens

#: Layers that end a residual branch: starting them at zero makes the network start as identity.
RESIDUAL_ENDS = r"(conv2|proj_out|to_out_0)/kernel$"
_ZERO_AT_START = rf"conv_out/kernel$|{RESIDUAL_ENDS}"  # and a network that predicts nothing


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
        text_key, heads_key = jax.random.split(key)
        ids, mask = table.null_ids[None], table.null_mask[None]
        text = jax.jit(self.text.init)(text_key, ids, mask)["params"]
        return {"text": text, "heads": init_heads(heads_key, self.text.config.d_model, self.sizes)}

    def loss(
        self, params: Params, frozen: Any, table: CaptionTable, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        del frozen
        captions = draw_captions(table, key, self.batch, 0.0)
        pooled = states(self.text, params["text"], captions.ids, captions.mask).mean(axis=1)
        return telling_loss(params["heads"], pooled, captions.named)


def init_heads(key: PRNGKeyArray, width: int, sizes: tuple[int, ...]) -> Params:
    """A fresh linear head per factor; "not named" is a value of its own, the first."""
    keys = jax.random.split(key, len(sizes))
    init = nn.initializers.lecun_normal()
    return {
        str(i): init(k, (width, 1 + n)) for i, (k, n) in enumerate(zip(keys, sizes, strict=True))
    }


def telling_loss(
    heads: Params, features: Float[Array, "b d"], values: Int[Array, "b f"]
) -> Float[Array, ""]:
    """How badly the heads tell the factors' values (-1 for "not named"), mean over factors."""
    losses = [
        cross_entropy(features @ heads[str(i)], values[:, i] + 1) for i in range(values.shape[1])
    ]
    return jnp.mean(jnp.stack(losses))


def cross_entropy(logits: Float[Array, "b k"], labels: Int[Array, " b"]) -> Float[Array, ""]:
    """Mean cross-entropy of integer labels."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def text_states(
    text: T5Encoder | CLIPTextModel, params: Params, ids: Tokens, mask: TextMask
) -> TextStates:
    """What a stage reads of a text; CLIP's tower takes no mask."""
    if isinstance(text, T5Encoder):
        return states(text, params, ids, mask)
    out: Any = text.apply({"params": params}, ids)
    return out.last_hidden_state


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageTask:
    """One diffusion stage.

    `frozen` is {"text": the text encoder's parameters, "stage": what the stage needs beside its
    UNet (an autoencoder, or nothing)}.
    """

    stage: UNetStage
    text: T5Encoder | CLIPTextModel
    batch: int
    mark_share: float
    text_dropout: float
    oversample: int

    def init(self, key: PRNGKeyArray, table: CaptionTable) -> Params:
        length, width = table.null_ids.shape[0], self.stage.unet.config.text_dim
        return {"unet": init_stage(self.stage, key, jnp.zeros((1, length, width)))}

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
        cond = Cond(text_states(self.text, frozen["text"], batch.ids, batch.mask))
        params = {**params, **frozen["stage"]}
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


def zero_residuals(params: Params, pattern: str = _ZERO_AT_START) -> Params:
    """Sets the last layer of every residual branch (and of the network) to zero."""

    def change(path, a):
        name = "/".join(k.key for k in path)
        return jnp.zeros_like(a) if re.search(pattern, name) else a

    return jax.tree_util.tree_map_with_path(change, params)
