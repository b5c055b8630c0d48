"""The T5 v1.1 text encoder (Raffel et al. 2020, arXiv:1910.10683; gated GELU, no biases)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.models.activations import gelu_tanh
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import RMSNorm, statistics_dtype
from imagic_jax.models.supported import UnsupportedConfig
from imagic_jax.typing import Array, DType, Float, TextMask, TextStates, Tokens


@dataclass(frozen=True, kw_only=True)
class T5Config:
    """Static structure of a `T5Encoder` (transformers' `T5Config`, gated v1.1 layers only)."""

    vocab_size: int = 32128
    d_model: int = 512
    d_kv: int = 64
    d_ff: int = 2048
    num_layers: int = 6
    num_heads: int = 8
    relative_attention_num_buckets: int = 32
    relative_attention_max_distance: int = 128
    layer_norm_epsilon: float = 1e-6

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "T5Config":
        """Reads a transformers T5 `config.json`.

        Raises:
          UnsupportedConfig: the feed-forward is not T5 v1.1's gated GELU.
        """
        feed_forward = raw.get("feed_forward_proj", "relu")
        if feed_forward != "gated-gelu":
            raise UnsupportedConfig(
                f"feed_forward_proj={feed_forward!r} is not supported (supported: 'gated-gelu')"
            )
        return cls(**{f: raw[f] for f in cls.__dataclass_fields__ if raw.get(f) is not None})


class T5Encoder(nn.Module):
    """transformers' `T5EncoderModel`."""

    config: T5Config
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, input_ids: Tokens, attention_mask: TextMask | None = None) -> TextStates:
        """Encodes token ids.

        Args:
          input_ids: (B, L).
          attention_mask: (B, L), nonzero at real tokens; padding is then not attended to (but
            padding rows still come out, and DeepFloyd IF consumes them). None: attend to all.

        Returns:
          (B, L, d_model) last hidden states in the compute dtype.
        """
        config = self.config
        embed = nn.Embed(config.vocab_size, config.d_model, dtype=self.dtype, name="shared")
        return T5Stack(config, self.dtype, name="encoder")(embed(input_ids), attention_mask)


class T5Stack(nn.Module):
    """The blocks and the final norm."""

    config: T5Config
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates, mask: TextMask | None) -> TextStates:
        """Maps token embeddings to the last hidden states."""
        bias = None
        for i in range(self.config.num_layers):
            h, bias = T5Block(self.config, self.dtype, name=f"block_{i}")(h, mask, bias)
        epsilon = self.config.layer_norm_epsilon
        return RMSNorm(epsilon, self.dtype, name="final_layer_norm")(h)


class T5Block(nn.Module):
    """Self-attention and feed-forward, each with its norm and residual."""

    config: T5Config
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self, h: TextStates, mask: TextMask | None, bias: Float[Array, "heads l l"] | None
    ) -> tuple[TextStates, Float[Array, "heads l l"]]:
        """Returns the states and the position bias, which layer 0 makes and all layers share."""
        update, bias = T5AttentionLayer(self.config, self.dtype, name="layer_0")(h, mask, bias)
        h = h + update
        return h + T5FeedForwardLayer(self.config, self.dtype, name="layer_1")(h), bias


class T5AttentionLayer(nn.Module):
    """Norm and self-attention."""

    config: T5Config
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self, h: TextStates, mask: TextMask | None, bias: Float[Array, "heads l l"] | None
    ) -> tuple[TextStates, Float[Array, "heads l l"]]:
        """Returns what attention adds to h, and the position bias."""
        h = RMSNorm(self.config.layer_norm_epsilon, self.dtype, name="layer_norm")(h)
        return T5Attention(self.config, self.dtype, name="SelfAttention")(h, mask, bias)


class T5Attention(nn.Module):
    """Self-attention with relative position bias; scores are not divided by sqrt(d_kv)."""

    config: T5Config
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(
        self, h: TextStates, mask: TextMask | None, bias: Float[Array, "heads l l"] | None
    ) -> tuple[TextStates, Float[Array, "heads l l"]]:
        """Softmax in float32 over the keys that the mask leaves."""
        config, (batch, length, _) = self.config, h.shape
        inner = config.num_heads * config.d_kv
        q, k, v = (
            Linear(inner, use_bias=False, dtype=self.dtype, name=name)(h).reshape(
                batch, length, config.num_heads, config.d_kv
            )
            for name in "qkv"
        )
        wide = statistics_dtype(self.dtype)
        if bias is None:
            buckets, heads = config.relative_attention_num_buckets, config.num_heads
            table = nn.Embed(buckets, heads, dtype=wide, name="relative_attention_bias")
            learned: Any = table(relative_position_buckets(length, config))
            bias = learned.transpose(2, 0, 1)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=wide) + jnp.asarray(
            bias
        )
        if mask is not None:
            keep = mask[:, None, None, :] != 0
            scores = jnp.where(keep, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=-1).astype(self.dtype)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, inner)
        return Linear(config.d_model, use_bias=False, dtype=self.dtype, name="o")(out), jnp.asarray(
            bias
        )


def relative_position_buckets(length: int, config: T5Config) -> np.ndarray:
    """(query, key) bucket numbers, bidirectional: half for each sign, then exact, then log."""
    half = config.relative_attention_num_buckets // 2
    exact = half // 2
    relative = np.arange(length)[None, :] - np.arange(length)[:, None]  # key - query
    distance = np.abs(relative)
    spread = np.log(config.relative_attention_max_distance / exact)
    far = exact + np.log(np.maximum(distance, 1) / exact) / spread * (half - exact)
    bucket = np.where(distance < exact, distance, np.minimum(far.astype(np.int32), half - 1))
    return (bucket + half * (relative > 0)).astype(np.int32)


class T5FeedForwardLayer(nn.Module):
    """Norm and gated feed-forward."""

    config: T5Config
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Returns what the feed-forward adds to h."""
        h = RMSNorm(self.config.layer_norm_epsilon, self.dtype, name="layer_norm")(h)
        return T5FeedForward(self.config, self.dtype, name="DenseReluDense")(h)


class T5FeedForward(nn.Module):
    """wo(gelu(wi_0 x) * wi_1 x) with the tanh GELU."""

    config: T5Config
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Applies the feed-forward to each token."""
        d_ff = self.config.d_ff
        gate = gelu_tanh(Linear(d_ff, use_bias=False, dtype=self.dtype, name="wi_0")(h))
        value = Linear(d_ff, use_bias=False, dtype=self.dtype, name="wi_1")(h)
        return Linear(h.shape[-1], use_bias=False, dtype=self.dtype, name="wo")(gate * value)
