"""Embeddings of timesteps, noise levels and whole texts that condition a UNet's residual blocks."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from imagic_jax.models.activations import activation
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import LayerNorm, statistics_dtype
from imagic_jax.models.softmax_attention import softmax_attention
from imagic_jax.typing import Array, DType, Float, Num, Pooled, TextStates


def sinusoid(
    positions: Num[Array, " n"], dim: int, flip_sin_to_cos: bool, freq_shift: float
) -> Float[Array, "n dim"]:
    """Sinusoidal embedding of timesteps, always float32 (diffusers' `get_timestep_embedding`).

    Near t = 1000 one unit in the last place of a frequency moves the embedding by 6e-5. So the
    frequencies are a table made by NumPy, the same bits on every platform: the exponents rounded
    to float32 as PyTorch rounds them, their exponentials computed in float64 and rounded once.
    """
    half = dim // 2
    exponents = np.float32(-math.log(10_000)) * np.arange(half, dtype=np.float32)
    exponents = exponents / np.float32(half - freq_shift)
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = positions.astype(jnp.float32)[:, None] * frequencies
    parts = [jnp.cos(angles), jnp.sin(angles)]
    table = jnp.concatenate(parts if flip_sin_to_cos else parts[::-1], axis=-1)
    return jnp.pad(table, ((0, 0), (0, dim % 2)))


class TimestepEmbedding(nn.Module):
    """Two linear layers with an activation between."""

    features: int
    act: str
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "b c"]) -> Float[Array, "b d"]:
        """Maps an embedding to width `features`."""
        x = Linear(self.features, dtype=self.dtype, name="linear_1")(x)
        return Linear(self.features, dtype=self.dtype, name="linear_2")(activation(self.act)(x))


class TextTimeEmbedding(nn.Module):
    """DeepFloyd IF's pooling of the raw text states into the time embedding."""

    features: int
    num_heads: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, text: TextStates) -> Float[Array, "b o"]:
        """Returns one vector of width `features` for each text."""
        x = LayerNorm(1e-5, self.dtype, name="norm1")(text)
        x = AttentionPooling(self.num_heads, self.dtype, name="pool")(x)
        x = Linear(self.features, dtype=self.dtype, name="proj")(x)
        return LayerNorm(1e-5, self.dtype, name="norm2")(x)


class AttentionPooling(nn.Module):
    """One query, the mean token plus a learned vector, attends to itself and to all tokens."""

    num_heads: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: TextStates) -> Pooled:
        """Pools tokens; heads are concatenated, there is no output projection."""
        width = x.shape[-1]
        learned = self.param(
            "positional_embedding", nn.initializers.normal(width**-0.5), (1, width)
        )
        mean = x.astype(statistics_dtype(x.dtype)).mean(axis=1, keepdims=True).astype(self.dtype)
        query = mean + learned.astype(self.dtype)
        tokens = jnp.concatenate([query, x], axis=1)
        q = self._heads("q_proj", query)
        k = self._heads("k_proj", tokens)
        v = self._heads("v_proj", tokens)
        return softmax_attention(q, k, v).reshape(x.shape[0], width)

    def _heads(self, name: str, x: Float[Array, "b n d"]) -> Float[Array, "b heads n k"]:
        """Projects and splits the channels into heads."""
        y = Linear(x.shape[-1], dtype=self.dtype, name=name)(x)
        return y.reshape(*x.shape[:2], self.num_heads, -1).swapaxes(1, 2)
