"""CLIP's text tower (Radford et al. 2021, arXiv:2103.00020): transformers' `CLIPTextModel`.

SD1 reads OpenAI's ViT-L (quick GELU), SD2 OpenCLIP's ViT-H cut before its last layer, SDXL both the
penultimate states of ViT-L and of OpenCLIP's ViT-bigG, and the latter's projected pooled state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.activations import activation
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import LayerNorm, statistics_dtype
from imagic_jax.models.supported import UnsupportedConfig
from imagic_jax.typing import Array, DType, Float, TextStates, Tokens

#: Published configs say this end-of-text id and mean "the largest id of the row".
_LEGACY_EOS = 2
_ACTIVATIONS = ("quick_gelu", "gelu")


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig:
    """Static structure of a `CLIPTextModel`; names and defaults are transformers'."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407
    projection_dim: int | None = None  # None: the pooled state is not projected

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "CLIPTextConfig":
        """Reads a transformers `config.json` of a CLIP text model, with or without projection.

        Raises:
          UnsupportedConfig: an activation or a number of heads that is not possible.
        """
        values = {f: raw[f] for f in cls.__dataclass_fields__ if raw.get(f) is not None}
        if "CLIPTextModelWithProjection" not in (raw.get("architectures") or ()):
            values.pop("projection_dim", None)
        else:
            values.setdefault("projection_dim", 512)
        config = cls(**values)
        if config.hidden_act not in _ACTIVATIONS:
            raise UnsupportedConfig(
                f"hidden_act={config.hidden_act!r} is not supported "
                f"(supported: {', '.join(map(repr, _ACTIVATIONS))})"
            )
        if config.hidden_size % config.num_attention_heads:
            raise UnsupportedConfig(
                f"num_attention_heads={config.num_attention_heads} does not divide "
                f"hidden_size={config.hidden_size}"
            )
        return config


class CLIPTextOutput(NamedTuple):
    """What a text tower makes of tokens."""

    last_hidden_state: Float[Array, "b l c"]  # after the final norm
    penultimate: Float[Array, "b l c"]  # before the last layer, not normalised
    pooled: Float[Array, "b p"]  # the end-of-text state, projected where the model projects


class CLIPTextModel(nn.Module):
    """transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, input_ids: Tokens) -> CLIPTextOutput:
        """Encodes token ids.

        Args:
          input_ids: (B, L), L at most `max_position_embeddings`; padding is attended to, as in
            training.

        Raises:
          ValueError: more tokens than positions.
        """
        config = self.config
        last, penultimate = CLIPTextTransformer(config, self.dtype, name="text_model")(input_ids)
        if config.eos_token_id == _LEGACY_EOS:
            end = input_ids.argmax(axis=-1)
        else:
            end = (input_ids == config.eos_token_id).argmax(axis=-1)
        pooled = jnp.take_along_axis(last, end[:, None, None], axis=1)[:, 0]
        if config.projection_dim is not None:
            pooled = Linear(
                config.projection_dim, use_bias=False, dtype=self.dtype, name="text_projection"
            )(pooled)
        return CLIPTextOutput(last, penultimate, pooled)


class CLIPTextTransformer(nn.Module):
    """Embeddings, layers, final norm."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, input_ids: Tokens) -> tuple[TextStates, TextStates]:
        """Returns the normalised last states and the states before the last layer."""
        h = CLIPTextEmbeddings(self.config, self.dtype, name="embeddings")(input_ids)
        last, penultimate = CLIPEncoder(self.config, self.dtype, name="encoder")(h)
        norm = LayerNorm(self.config.layer_norm_eps, self.dtype, name="final_layer_norm")
        return norm(last), penultimate


class CLIPTextEmbeddings(nn.Module):
    """Token and position tables."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, input_ids: Tokens) -> TextStates:
        """(B, L) ids to (B, L, C)."""
        config, length = self.config, input_ids.shape[-1]
        if length > config.max_position_embeddings:
            raise ValueError(
                f"{length} tokens, but the model has {config.max_position_embeddings} positions"
            )
        tokens = nn.Embed(
            config.vocab_size, config.hidden_size, dtype=self.dtype, name="token_embedding"
        )
        positions = nn.Embed(
            config.max_position_embeddings,
            config.hidden_size,
            dtype=self.dtype,
            name="position_embedding",
        )
        return tokens(input_ids) + positions(jnp.arange(length))


class CLIPEncoder(nn.Module):
    """The layers, under a causal mask."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> tuple[TextStates, TextStates]:
        """Returns the last and the last but one states."""
        before = h
        for i in range(self.config.num_hidden_layers):
            before, h = h, CLIPLayer(self.config, self.dtype, name=f"layers_{i}")(h)
        return h, before


class CLIPLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Adds both parts to h."""
        epsilon = self.config.layer_norm_eps
        normed = LayerNorm(epsilon, self.dtype, name="layer_norm1")(h)
        attention = CLIPAttention(self.config.num_attention_heads, self.dtype, name="self_attn")
        h = h + attention(normed)
        normed = LayerNorm(epsilon, self.dtype, name="layer_norm2")(h)
        return h + CLIPMLP(self.config, self.dtype, name="mlp")(normed)


class CLIPAttention(nn.Module):
    """Causal multi-head self-attention; scores and softmax in float32."""

    heads: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Each token reads itself and those before it."""
        batch, length, channels = h.shape
        q, k, v = (
            Linear(channels, dtype=self.dtype, name=f"{name}_proj")(h).reshape(
                batch, length, self.heads, channels // self.heads
            )
            for name in "qkv"
        )
        wide = statistics_dtype(self.dtype)
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k, preferred_element_type=wide)
        scores = scores * (channels // self.heads) ** -0.5
        seen = jnp.tril(jnp.ones((length, length), bool))
        weights = jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(scores.dtype).min), axis=-1)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(self.dtype), v)
        return Linear(channels, dtype=self.dtype, name="out_proj")(out.reshape(h.shape))


class CLIPMLP(nn.Module):
    """Two linear layers and an activation."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Applies the feed-forward to each token."""
        inner = Linear(self.config.intermediate_size, dtype=self.dtype, name="fc1")(h)
        act = activation(self.config.hidden_act)
        return Linear(h.shape[-1], dtype=self.dtype, name="fc2")(act(inner))
