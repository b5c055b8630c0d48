"""DINO's vision transformer (Caron et al. 2021, arXiv:2104.14294), with its published names.

`facebookresearch/dino`'s `VisionTransformer` without a head. Two things are read off it: the class
token, and the keys of the last block's attention, whose self-similarity is a picture's structure
(Tumanyan et al. 2022, arXiv:2201.00424).
"""

from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.activations import gelu
from imagic_jax.models.clip import TABLE_INIT
from imagic_jax.models.conv import Conv
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import LayerNorm
from imagic_jax.typing import Array, Float, Image, TextStates

_EPSILON = 1e-6


@dataclass(frozen=True, kw_only=True)
class DINOConfig:
    """Static structure; `vit_base(patch_size=8)` by default."""

    patch_size: int = 8
    embed_dim: int = 768
    depth: int = 12
    num_heads: int = 12
    mlp_ratio: int = 4
    image_size: int = 224


VIT_B8 = DINOConfig()
VIT_S16 = DINOConfig(patch_size=16, embed_dim=384, num_heads=6)


class DINOOutput(NamedTuple):
    """What is read off the network."""

    cls: Float[Array, "b d"]  # the class token, after the final norm
    keys: Float[Array, "b t d"]  # of the last block, heads side by side, class token first


class DINO(nn.Module):
    """`VisionTransformer`."""

    config: DINOConfig

    @nn.compact
    def __call__(self, x: Image) -> DINOOutput:
        """Pictures of `image_size` pixels per side, normalised as ImageNet.

        Raises:
          ValueError: pictures of another size (positions are not interpolated).
        """
        config = self.config
        if x.shape[1:3] != (config.image_size, config.image_size):
            raise ValueError(
                f"pictures of {x.shape[1]} x {x.shape[2]}, but the model takes "
                f"{config.image_size} x {config.image_size}"
            )
        patches = PatchEmbed(config, name="patch_embed")(x)
        first = self.param("cls_token", TABLE_INIT, (1, 1, config.embed_dim))
        first = jnp.broadcast_to(first, (x.shape[0], 1, config.embed_dim))
        h = jnp.concatenate([first, patches], axis=1)
        h = h + self.param("pos_embed", TABLE_INIT, (1, *h.shape[1:]))
        keys = h
        for i in range(config.depth):
            h, keys = Block(config, name=f"blocks_{i}")(h)
        return DINOOutput(LayerNorm(_EPSILON, name="norm")(h[:, 0]), keys)


class PatchEmbed(nn.Module):
    """Patches as tokens, row by row."""

    config: DINOConfig

    @nn.compact
    def __call__(self, x: Image) -> TextStates:
        """(B, H, W, 3) to (B, patches, D)."""
        patch, width = self.config.patch_size, self.config.embed_dim
        h = Conv(width, patch, patch, 0, name="proj")(x)
        return h.reshape(x.shape[0], -1, width)


class Block(nn.Module):
    """Pre-norm attention and feed-forward."""

    config: DINOConfig

    @nn.compact
    def __call__(self, h: TextStates) -> tuple[TextStates, TextStates]:
        """Returns the states and this block's keys."""
        normed = LayerNorm(_EPSILON, name="norm1")(h)
        out, keys = SelfAttention(self.config.num_heads, name="attn")(normed)
        h = h + out
        normed = LayerNorm(_EPSILON, name="norm2")(h)
        return h + Feedforward(self.config.mlp_ratio, name="mlp")(normed), keys


class SelfAttention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values."""

    heads: int

    @nn.compact
    def __call__(self, h: TextStates) -> tuple[TextStates, TextStates]:
        """Returns what was read and the keys, heads side by side."""
        batch, length, width = h.shape
        q, keys, v = jnp.split(Linear(3 * width, name="qkv")(h), 3, axis=-1)
        q, k, v = (a.reshape(batch, length, self.heads, width // self.heads) for a in (q, keys, v))
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) * (width // self.heads) ** -0.5
        out = jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores, axis=-1), v)
        return Linear(width, name="proj")(out.reshape(h.shape)), keys


class Feedforward(nn.Module):
    """Two linear layers and the exact GELU."""

    ratio: int

    @nn.compact
    def __call__(self, h: TextStates) -> TextStates:
        """Applies the feed-forward to each token."""
        inner = gelu(Linear(self.ratio * h.shape[-1], name="fc1")(h))
        return Linear(h.shape[-1], name="fc2")(inner)
