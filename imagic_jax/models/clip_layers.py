"""The transformer layers that CLIP's two towers share (Radford et al. 2021, arXiv:2103.00020)."""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.activations import activation
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import LayerNorm, statistics_dtype
from imagic_jax.models.supported import UnsupportedConfig
from imagic_jax.typing import DType, TextStates

_ACTIVATIONS = ("quick_gelu", "gelu")


@dataclass(frozen=True, kw_only=True)
class CLIPLayersConfig:
    """The layers of a tower; names are transformers'."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    def check(self) -> None:
        """Raises UnsupportedConfig for an activation or a number of heads that is not possible."""
        if self.hidden_act not in _ACTIVATIONS:
            raise UnsupportedConfig(
                f"hidden_act={self.hidden_act!r} is not supported "
                f"(supported: {', '.join(map(repr, _ACTIVATIONS))})"
            )
        if self.hidden_size % self.num_attention_heads:
            raise UnsupportedConfig(
                f"num_attention_heads={self.num_attention_heads} does not divide "
                f"hidden_size={self.hidden_size}"
            )


class CLIPEncoder(nn.Module):
    """The layers of a tower; a text's tokens read only those before them."""

    config: CLIPLayersConfig
    causal: bool
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> tuple[TextStates, TextStates]:
        """Returns the last and the last but one states."""
        before = h
        for i in range(self.config.num_hidden_layers):
            layer = CLIPLayer(self.config, self.causal, self.dtype, name=f"layers_{i}")
            before, h = h, layer(h)
        return h, before


class CLIPLayer(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    config: CLIPLayersConfig
    causal: bool
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Adds both parts to h."""
        epsilon, heads = self.config.layer_norm_eps, self.config.num_attention_heads
        normed = LayerNorm(epsilon, self.dtype, name="layer_norm1")(h)
        h = h + CLIPAttention(heads, self.causal, self.dtype, name="self_attn")(normed)
        normed = LayerNorm(epsilon, self.dtype, name="layer_norm2")(h)
        return h + CLIPMLP(self.config, self.dtype, name="mlp")(normed)


class CLIPAttention(nn.Module):
    """Multi-head self-attention; scores and softmax in float32."""

    heads: int
    causal: bool
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Each token reads all, or itself and those before it."""
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
        if self.causal:
            seen = jnp.tril(jnp.ones((length, length), bool))
            scores = jnp.where(seen, scores, jnp.finfo(scores.dtype).min)
        weights = jax.nn.softmax(scores, axis=-1)
        out = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(self.dtype), v)
        return Linear(channels, dtype=self.dtype, name="out_proj")(out.reshape(h.shape))


class CLIPMLP(nn.Module):
    """Two linear layers and an activation."""

    config: CLIPLayersConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Applies the feed-forward to each token."""
        inner = Linear(self.config.intermediate_size, dtype=self.dtype, name="fc1")(h)
        act = activation(self.config.hidden_act)
        return Linear(h.shape[-1], dtype=self.dtype, name="fc2")(act(inner))
