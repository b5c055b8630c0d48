"""Stable Diffusion's autoencoder (Rombach et al. 2022): diffusers' `AutoencoderKL`.

It maps pictures to latents `2^(levels - 1)` times smaller per side and back. Latents come out as a
Gaussian's mean and log-variance, unscaled: a model's `scaling_factor` belongs to its user.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.conv import Conv
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import GroupNorm
from imagic_jax.models.resnet import ResnetBlock, Upsample
from imagic_jax.models.softmax_attention import softmax_attention
from imagic_jax.models.supported import ACTIVATIONS, UnsupportedConfig
from imagic_jax.typing import Array, DType, Features, Float

_EPSILON = 1e-6  # of every norm here, where the UNet's residual blocks have 1e-5
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "act_fn": ACTIVATIONS,
    "mid_block_add_attention": (True,),
    "use_quant_conv": (True,),
    "use_post_quant_conv": (True,),
    "shift_factor": (None, 0, 0.0),
    "latents_mean": (None,),
    "latents_std": (None,),
}


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Static structure of an `AutoencoderKL`; names and defaults are diffusers'."""

    in_channels: int = 3
    out_channels: int = 3
    block_out_channels: tuple[int, ...] = (64,)
    layers_per_block: int = 1
    latent_channels: int = 4
    norm_num_groups: int = 32
    act_fn: str = "silu"
    scaling_factor: float = 0.18215

    @property
    def factor(self) -> int:
        """Pixels per latent, per side."""
        return 2 ** (len(self.block_out_channels) - 1)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "VAEConfig":
        """Reads a diffusers VAE `config.json`.

        Raises:
          UnsupportedConfig: an option of the file is not implemented, named in the message.
        """
        for key, supported in _SUPPORTED.items():
            if key in raw and raw[key] not in supported:
                allowed = ", ".join(map(repr, supported))
                raise UnsupportedConfig(
                    f"{key}={raw[key]!r} is not supported (supported: {allowed})"
                )
        for key, kind in (
            ("down_block_types", "DownEncoderBlock2D"),
            ("up_block_types", "UpDecoderBlock2D"),
        ):
            for name in raw.get(key) or ():
                if name != kind:
                    raise UnsupportedConfig(
                        f"{key} holds {name!r}, which is not supported (supported: {kind})"
                    )
        known = {f: raw[f] for f in cls.__dataclass_fields__ if raw.get(f) is not None}
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in known.items()
        }
        config = cls(**values)
        for channels in config.block_out_channels:
            if channels % config.norm_num_groups:
                raise UnsupportedConfig(
                    f"block_out_channels={config.block_out_channels} cannot be split into "
                    f"norm_num_groups={config.norm_num_groups} groups"
                )
        return config


class AutoencoderKL(nn.Module):
    """Encoder and decoder; call them by `apply(..., method="encode")` and `method="decode"`."""

    config: VAEConfig
    dtype: DType = jnp.float32

    def setup(self) -> None:
        """Makes the four parts under diffusers' names."""
        config = self.config
        self.encoder = Encoder(config, self.dtype)
        self.quant_conv = Conv(2 * config.latent_channels, 1, padding=0, dtype=self.dtype)
        self.post_quant_conv = Conv(config.latent_channels, 1, padding=0, dtype=self.dtype)
        self.decoder = Decoder(config, self.dtype)

    def __call__(self, image: Features) -> Features:
        """The reconstruction through the posterior's mean."""
        return self.decode(self.encode(image)[0])

    def encode(
        self, image: Features
    ) -> tuple[Float[Array, "b h2 w2 d"], Float[Array, "b h2 w2 d"]]:
        """Pictures (B, H, W, 3) in [-1, 1] to the mean and log-variance of their latents.

        The log-variance is clipped to [-30, 20].

        Raises:
          ValueError: H or W is no multiple of `config.factor`.
        """
        factor = self.config.factor
        if image.shape[1] % factor or image.shape[2] % factor:
            raise ValueError(
                f"the autoencoder takes sizes that are multiples of {factor}, got "
                f"{image.shape[1]} x {image.shape[2]}"
            )
        mean, logvar = jnp.split(self.quant_conv(self.encoder(image)), 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, latent: Features) -> Float[Array, "b h2 w2 o"]:
        """Unscaled latents (B, h, w, C) to pictures (B, h factor, w factor, 3), about [-1, 1]."""
        return self.decoder(self.post_quant_conv(latent))


class Encoder(nn.Module):
    """Pictures to moments."""

    config: VAEConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b h2 w2 m"]:
        """Returns 2 `latent_channels` channels at 1 / factor of the resolution."""
        config = self.config
        h = Conv(config.block_out_channels[0], dtype=self.dtype, name="conv_in")(x)
        last = len(config.block_out_channels) - 1
        for i, channels in enumerate(config.block_out_channels):
            block = DownEncoderBlock(
                config, channels, i < last, self.dtype, name=f"down_blocks_{i}"
            )
            h = block(h)
        h = MidBlock(config, self.dtype, name="mid_block")(h)
        return _head(config, 2 * config.latent_channels, self.dtype, h)


class Decoder(nn.Module):
    """Latents to pictures."""

    config: VAEConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, z: Features) -> Float[Array, "b h2 w2 o"]:
        """Returns pictures at factor times the resolution."""
        config = self.config
        h = Conv(config.block_out_channels[-1], dtype=self.dtype, name="conv_in")(z)
        h = MidBlock(config, self.dtype, name="mid_block")(h)
        last = len(config.block_out_channels) - 1
        for i, channels in enumerate(reversed(config.block_out_channels)):
            block = UpDecoderBlock(config, channels, i < last, self.dtype, name=f"up_blocks_{i}")
            h = block(h)
        return _head(config, config.out_channels, self.dtype, h)


def _head(config: VAEConfig, channels: int, dtype: DType, h: Features) -> Array:
    """Norm, activation, convolution: the end of both halves."""
    h = GroupNorm(config.norm_num_groups, _EPSILON, dtype, name="conv_norm_out")(h)
    return Conv(channels, dtype=dtype, name="conv_out")(jax.nn.silu(h))  # whatever `act_fn` says


class DownEncoderBlock(nn.Module):
    """Residual blocks, then half the resolution."""

    config: VAEConfig
    features_out: int
    downsample: bool
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h2 w2 o"]:
        """Runs one level of the encoder."""
        for i in range(self.config.layers_per_block):
            h = _resnet(self.config, self.features_out, self.dtype, f"resnets_{i}")(h, None)
        if self.downsample:
            h = PaddedDownsample(self.dtype, name="downsamplers_0")(h)
        return h


class UpDecoderBlock(nn.Module):
    """Residual blocks (one more than in the encoder), then twice the resolution."""

    config: VAEConfig
    features_out: int
    upsample: bool
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h2 w2 o"]:
        """Runs one level of the decoder."""
        for i in range(self.config.layers_per_block + 1):
            h = _resnet(self.config, self.features_out, self.dtype, f"resnets_{i}")(h, None)
        if self.upsample:
            h = Upsample(self.dtype, name="upsamplers_0")(h)
        return h


class PaddedDownsample(nn.Module):
    """A 3x3 convolution of stride 2 with one zero of padding below and to the right alone."""

    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b h2 w2 c"]:
        """Halves the resolution."""
        x = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        return Conv(x.shape[-1], stride=2, padding=0, dtype=self.dtype, name="conv")(x)


class MidBlock(nn.Module):
    """Residual block, attention, residual block at the lowest resolution."""

    config: VAEConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, h: Features) -> Features:
        """Keeps the shape."""
        channels = h.shape[-1]
        h = _resnet(self.config, channels, self.dtype, "resnets_0")(h, None)
        h = PixelAttention(self.config.norm_num_groups, self.dtype, name="attentions_0")(h)
        return _resnet(self.config, channels, self.dtype, "resnets_1")(h, None)


class PixelAttention(nn.Module):
    """Self-attention of one head over the pixels, with norm and residual; softmax in float32."""

    norm_num_groups: int
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Features:
        """Adds to x what its pixels read from each other."""
        batch, height, width, channels = x.shape
        h = GroupNorm(self.norm_num_groups, _EPSILON, self.dtype, name="group_norm")(x)
        h = h.reshape(batch, height * width, channels)
        q, k, v = (Linear(channels, dtype=self.dtype, name=f"to_{n}")(h) for n in "qkv")
        out = softmax_attention(q, k, v)
        out = Linear(channels, dtype=self.dtype, name="to_out_0")(out)
        return x + out.reshape(x.shape)


def _resnet(config: VAEConfig, channels: int, dtype: DType, name: str) -> ResnetBlock:
    return ResnetBlock(
        channels, config.norm_num_groups, _EPSILON, config.act_fn, dtype=dtype, name=name
    )
