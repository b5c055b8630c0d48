"""CLIP's image tower (Radford et al. 2021): transformers' `CLIPVisionModelWithProjection`.

A vision transformer (Dosovitskiy et al. 2021): patches are projected to tokens, a class token is
put before them, and its last state, normalised and projected, stands for the picture. Pictures come
in normalised by the mean and deviation of the model's `preprocessor_config.json`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.clip import TABLE_INIT
from imagic_jax.models.clip_layers import CLIPEncoder, CLIPLayersConfig
from imagic_jax.models.init import torch_uniform
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import LayerNorm
from imagic_jax.models.supported import UnsupportedConfig
from imagic_jax.typing import Array, DType, Float, Image, TextStates


@dataclass(frozen=True, kw_only=True)
class CLIPVisionConfig(CLIPLayersConfig):
    """Static structure of an image tower; names and defaults are transformers'."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    image_size: int = 224
    patch_size: int = 32
    projection_dim: int = 512

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "CLIPVisionConfig":
        """Reads a transformers `config.json` of an image tower.

        Raises:
          UnsupportedConfig: it asks for something that is not implemented, or that cannot be.
        """
        if raw.get("num_channels", 3) != 3:
            raise UnsupportedConfig(f"num_channels={raw['num_channels']!r} is not supported (3 is)")
        config = cls(**{f: raw[f] for f in cls.__dataclass_fields__ if raw.get(f) is not None})
        config.check()
        if config.image_size % config.patch_size:
            raise UnsupportedConfig(
                f"patch_size={config.patch_size} does not divide image_size={config.image_size}"
            )
        return config


class CLIPVisionOutput(NamedTuple):
    """What the image tower makes of pictures."""

    image_embeds: Float[Array, "b p"]  # projected, not normalised
    last_hidden_state: Float[Array, "b l c"]  # class token first, before the final norm


class CLIPVisionModel(nn.Module):
    """transformers' `CLIPVisionModelWithProjection`."""

    config: CLIPVisionConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, pixel_values: Image) -> CLIPVisionOutput:
        """Encodes pictures of `image_size` pixels per side, NHWC."""
        config = self.config
        tower = CLIPVisionTransformer(config, self.dtype, name="vision_model")
        last, pooled = tower(pixel_values)
        project = Linear(
            config.projection_dim, use_bias=False, dtype=self.dtype, name="visual_projection"
        )
        return CLIPVisionOutput(project(pooled), last)


class CLIPVisionTransformer(nn.Module):
    """Patches, class token and positions; layers; the class token's state."""

    config: CLIPVisionConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, pixel_values: Image) -> tuple[TextStates, Float[Array, "b d"]]:
        """Returns the last states of all tokens, and the class token's after the final norm.

        Raises:
          ValueError: pictures of another size than the model's.
        """
        size, epsilon = self.config.image_size, self.config.layer_norm_eps
        if pixel_values.shape[1:3] != (size, size):
            height, width = pixel_values.shape[1:3]
            raise ValueError(f"pictures of {height} x {width}, but the model takes {size} x {size}")
        h = CLIPVisionEmbeddings(self.config, self.dtype, name="embeddings")(pixel_values)
        # transformers' spelling
        h = LayerNorm(epsilon, self.dtype, name="pre_layrnorm")(h)
        last, _ = CLIPEncoder(self.config, False, self.dtype, name="encoder")(h)
        return last, LayerNorm(epsilon, self.dtype, name="post_layernorm")(last[:, 0])


class CLIPVisionEmbeddings(nn.Module):
    """A class token and one token per patch, with their positions."""

    config: CLIPVisionConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, pixel_values: Image) -> TextStates:
        """(B, H, W, 3) to (B, 1 + patches, C)."""
        width, batch = self.config.hidden_size, pixel_values.shape[0]
        patches = PatchEmbedding(width, self.config.patch_size, self.dtype, name="patch_embedding")
        first = self.param("class_embedding", TABLE_INIT, (width,)).astype(self.dtype)
        tokens = patches(pixel_values)
        tokens = jnp.concatenate([jnp.broadcast_to(first, (batch, 1, width)), tokens], axis=1)
        positions = nn.Embed(
            tokens.shape[1],
            width,
            dtype=self.dtype,
            embedding_init=TABLE_INIT,
            name="position_embedding",
        )
        return tokens + positions(jnp.arange(tokens.shape[1]))


class PatchEmbedding(nn.Module):
    """A convolution whose stride is its size, as one matrix product; kernel (p, p, 3, C)."""

    features: int
    patch: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Image) -> TextStates:
        """(B, H, W, 3) to (B, patches, C), row by row."""
        p, (batch, height, width, channels) = self.patch, x.shape
        kernel = self.param("kernel", torch_uniform, (p, p, channels, self.features))
        x = x.astype(self.dtype).reshape(batch, height // p, p, width // p, p, channels)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, -1, p * p * channels)
        return x @ kernel.astype(self.dtype).reshape(-1, self.features)
