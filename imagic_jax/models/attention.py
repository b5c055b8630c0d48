"""Attention in its two flavours: transformer blocks (SD, SDXL, x4) and added-KV (DeepFloyd IF).

Every attention of a UNet runs through the one method `Attention.attend`, so that editors can read
or replace attention from outside with `flax.linen.intercept_methods` and no branch here.
"""

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.activations import gelu
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import GroupNorm, LayerNorm
from imagic_jax.models.repeats import in_turn
from imagic_jax.models.softmax_attention import softmax_attention
from imagic_jax.typing import Array, DType, Features, Float, TextStates


class Attention(nn.Module):
    """Multi-head attention: what both flavours share, and what editors intercept."""

    heads: int
    dtype: DType = jnp.float32

    def attend(
        self,
        q: Float[Array, "b n heads d"],
        k: Float[Array, "b m heads d"],
        v: Float[Array, "b m heads d"],
        *,
        text_keys: int,
    ) -> Float[Array, "b n heads d"]:
        """`softmax(q k^T / sqrt(d)) v`; scores and softmax in float32 (float64 for float64).

        This is the method to intercept (`context.method_name == "attend"` and
        `isinstance(context.module, Attention)`; `context.module.path` says where). Queries are
        pixels in row-major order.

        Args:
          text_keys: how many of the m keys, the first ones, are text tokens: 0 in self-attention,
            m in cross-attention, in between in added-KV attention, where text and picture share
            one softmax over [text; self].
        """
        q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))  # heads first: plain matrix products
        return softmax_attention(q, k, v).swapaxes(1, 2)

    def project(
        self, name: str, x: Float[Array, "b l _"], features: int, use_bias: bool
    ) -> Float[Array, "b l heads d"]:
        """The linear layer `name`, its output split into heads."""
        y = Linear(features, use_bias, self.dtype, name=name)(x)
        return y.reshape(*x.shape[:2], self.heads, -1)


class TokenAttention(Attention):
    """Attention from tokens to themselves or to a context (diffusers' `Attention`)."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "b n c"], context: TextStates | None = None
    ) -> Float[Array, "b n c"]:
        """Returns what x reads from the text `context`, or from itself where there is none."""
        source = x if context is None else context
        q = self.project("to_q", x, x.shape[-1], use_bias=False)
        k = self.project("to_k", source, x.shape[-1], use_bias=False)
        v = self.project("to_v", source, x.shape[-1], use_bias=False)
        text_keys = 0 if context is None else context.shape[1]
        out = self.attend(q, k, v, text_keys=text_keys)
        return Linear(x.shape[-1], dtype=self.dtype, name="to_out_0")(out.reshape(x.shape))


class AddedKVAttention(Attention):
    """DeepFloyd IF's attention block: one softmax over [text; pixels], with norms and residual."""

    norm_num_groups: int = 32
    cross_attention_norm: str | None = None
    only_cross_attention: bool = False

    @nn.compact
    def __call__(self, x: Features, context: TextStates) -> Features:
        """Adds to x what its pixels read from the text and from each other."""
        batch, height, width, channels = x.shape
        if self.cross_attention_norm == "group_norm":
            # 32 groups whatever norm_num_groups says; the statistics run over tokens as well
            context = GroupNorm(32, 1e-5, self.dtype, name="norm_cross")(context)
        h = GroupNorm(self.norm_num_groups, 1e-5, self.dtype, name="group_norm")(x)
        h = h.reshape(batch, height * width, channels)
        q = self.project("to_q", h, channels, use_bias=True)
        k = self.project("add_k_proj", context, channels, use_bias=True)
        v = self.project("add_v_proj", context, channels, use_bias=True)
        if not self.only_cross_attention:
            k = jnp.concatenate([k, self.project("to_k", h, channels, use_bias=True)], axis=1)
            v = jnp.concatenate([v, self.project("to_v", h, channels, use_bias=True)], axis=1)
        out = self.attend(q, k, v, text_keys=context.shape[1]).reshape(h.shape)
        return x + Linear(channels, dtype=self.dtype, name="to_out_0")(out).reshape(x.shape)


class Transformer2D(nn.Module):
    """Transformer blocks over the pixels of a feature map, with a residual around them.

    `scan`: many blocks are one loop, see `repeats.in_turn`.
    """

    heads: int
    depth: int
    norm_num_groups: int
    only_cross_attention: bool = False
    dtype: DType = jnp.float32
    scan: bool = False

    @nn.compact
    def __call__(self, x: Features, context: TextStates) -> Features:
        """Returns x plus what the blocks make of it."""
        batch, height, width, channels = x.shape
        # eps 1e-6 here, 1e-5 in the residual blocks: so trained, and easily mistaken
        h = GroupNorm(self.norm_num_groups, 1e-6, self.dtype, name="norm")(x)
        h = h.reshape(batch, height * width, channels)
        h = Linear(channels, dtype=self.dtype, name="proj_in")(h)
        blocks = [
            TransformerBlock(
                self.heads, self.only_cross_attention, self.dtype, name=f"transformer_blocks_{i}"
            )
            for i in range(self.depth)
        ]
        h = in_turn(blocks, h, lambda block, h: block(h, context), self.scan)
        h = Linear(channels, dtype=self.dtype, name="proj_out")(h)
        return x + h.reshape(x.shape)


class TransformerBlock(nn.Module):
    """Self-attention (or a second cross-attention), cross-attention, feed-forward."""

    heads: int
    only_cross_attention: bool = False
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"], context: TextStates) -> Float[Array, "b n c"]:
        """Applies the three residual parts, each on a layer-normalised input."""
        h = LayerNorm(1e-5, self.dtype, name="norm1")(x)
        first = context if self.only_cross_attention else None
        x = x + TokenAttention(self.heads, self.dtype, name="attn1")(h, first)
        h = LayerNorm(1e-5, self.dtype, name="norm2")(x)
        x = x + TokenAttention(self.heads, self.dtype, name="attn2")(h, context)
        h = LayerNorm(1e-5, self.dtype, name="norm3")(x)
        return x + FeedForward(self.dtype, name="ff")(h)


class FeedForward(nn.Module):
    """GEGLU of inner width 4c and a linear layer back."""

    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        """Applies the feed-forward to each token."""
        h = GEGLU(4 * x.shape[-1], self.dtype, name="net_0")(x)
        return Linear(x.shape[-1], dtype=self.dtype, name="net_2")(h)


class GEGLU(nn.Module):
    """value * gelu(gate), value first; the exact GELU."""

    features: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n d"]:
        """Projects to twice the width, gates one half with the other."""
        value, gate = jnp.split(Linear(2 * self.features, dtype=self.dtype, name="proj")(x), 2, -1)
        return value * gelu(gate)
