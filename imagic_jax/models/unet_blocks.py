"""The levels of a UNet: down, middle and up blocks, for both attention flavours.

A level is residual blocks, each followed by attention where the level's kind has any, and a change
of resolution at its end (not on the last level). The kinds are told apart by diffusers' block
names, see `supported.DOWN_BLOCKS`. Module names spell diffusers' state-dict keys.
"""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.attention import AddedKVAttention, Transformer2D
from imagic_jax.models.config import UNetConfig
from imagic_jax.models.resnet import Downsample, ResnetBlock, Upsample
from imagic_jax.models.supported import DOWN_BLOCKS, MID_BLOCKS, UP_BLOCKS
from imagic_jax.typing import Array, DType, Features, Float, TextStates, TimeEmbedding


class DownBlock(nn.Module):
    """Level number `level` on the way down."""

    config: UNetConfig
    level: int
    dtype: DType = jnp.float32
    scan: bool = False

    @nn.compact
    def __call__(
        self, h: Features, temb: TimeEmbedding, context: TextStates
    ) -> tuple[Float[Array, "b h2 w2 o"], list[Array]]:
        """Returns the features and the skip connections, one for each layer and the downsampler."""
        config, level = self.config, self.level
        attention, resampler = DOWN_BLOCKS[config.down_block_types[level]]
        channels = config.block_out_channels[level]
        skips = []
        for i in range(config.layers_per_block[level]):
            h = _resnet(config, resampler, channels, self.dtype, f"resnets_{i}")(h, temb)
            if attention:
                attend = _attention(config, attention, level, channels, self.dtype, i, self.scan)
                h = attend(h, context)
            skips.append(h)
        if level < config.levels - 1:
            if resampler == "resnet":
                down = _resnet(config, resampler, channels, self.dtype, "downsamplers_0", "down")
                h = down(h, temb)
            else:
                h = Downsample(self.dtype, name="downsamplers_0")(h)
            skips.append(h)
        return h, skips


class MidBlock(nn.Module):
    """The lowest resolution: residual block, attention, residual block."""

    config: UNetConfig
    dtype: DType = jnp.float32
    scan: bool = False

    @nn.compact
    def __call__(self, h: Features, temb: TimeEmbedding, context: TextStates) -> Features:
        """Returns features of the same shape."""
        config = self.config
        attention = MID_BLOCKS[config.mid_block_type]
        channels = config.block_out_channels[-1]
        kind = "resnet" if attention == "added_kv" else "conv"
        scale = config.mid_block_scale_factor
        first = _resnet(config, kind, channels, self.dtype, "resnets_0", output_scale=scale)
        last = _resnet(config, kind, channels, self.dtype, "resnets_1", output_scale=scale)
        attend = _attention(config, attention, None, channels, self.dtype, 0, self.scan)
        return last(attend(first(h, temb), context), temb)


class UpBlock(nn.Module):
    """Level number `level` on the way up; levels are counted as on the way down."""

    config: UNetConfig
    level: int
    dtype: DType = jnp.float32
    scan: bool = False

    @nn.compact
    def __call__(
        self, h: Features, skips: list[Array], temb: TimeEmbedding, context: TextStates
    ) -> Float[Array, "b h2 w2 o"]:
        """Takes one skip, last first, for each of its `layers_per_block + 1` layers."""
        config, level = self.config, self.level
        attention, resampler = UP_BLOCKS[config.up_block_types[config.levels - 1 - level]]
        channels = config.block_out_channels[level]
        for i in range(config.layers_per_block[level] + 1):
            h = jnp.concatenate([h, skips[-1 - i]], axis=-1)
            h = _resnet(config, resampler, channels, self.dtype, f"resnets_{i}")(h, temb)
            if attention:
                attend = _attention(config, attention, level, channels, self.dtype, i, self.scan)
                h = attend(h, context)
        if level > 0:
            if resampler == "resnet":
                up = _resnet(config, resampler, channels, self.dtype, "upsamplers_0", "up")
                h = up(h, temb)
            else:
                h = Upsample(self.dtype, name="upsamplers_0")(h)
        return h


def _resnet(
    config: UNetConfig,
    kind: str,
    channels: int,
    dtype: DType,
    name: str,
    resample: Literal["down", "up"] | None = None,
    output_scale: float | None = None,
) -> ResnetBlock:
    """A residual block as the config wants it on a level whose resampler is `kind`."""
    # diffusers hands these two options to the "resnet" kinds only and ignores them elsewhere
    ours = kind == "resnet"
    if output_scale is None:
        output_scale = config.resnet_out_scale_factor if ours else 1.0
    return ResnetBlock(
        features_out=channels,
        num_groups=config.norm_num_groups,
        epsilon=config.norm_eps,
        act=config.act_fn,
        scale_shift=config.resnet_time_scale_shift == "scale_shift",
        skip_time_act=config.resnet_skip_time_act and ours,
        output_scale=output_scale,
        resample=resample,
        dtype=dtype,
        name=name,
    )


def _attention(
    config: UNetConfig,
    kind: str,
    level: int | None,
    channels: int,
    dtype: DType,
    index: int,
    scan: bool,
) -> nn.Module:
    """Attention number `index` of a level (None: the middle, like the last)."""
    middle = level is None
    level = config.levels - 1 if middle else level
    only_cross = config.only_cross_attention[level]
    if kind == "added_kv":
        return AddedKVAttention(
            heads=channels // config.attention_head_dim[level],  # here it is the width of a head
            norm_num_groups=config.norm_num_groups,
            cross_attention_norm=config.cross_attention_norm,
            only_cross_attention=config.mid_block_only_cross_attention if middle else only_cross,
            dtype=dtype,
            name=f"attentions_{index}",
        )
    return Transformer2D(
        heads=config.attention_head_dim[level],  # misnamed in diffusers: the number of heads
        depth=config.transformer_layers_per_block[level],
        norm_num_groups=config.norm_num_groups,
        # diffusers' transformer middle attends to itself whatever the config says
        only_cross_attention=only_cross and not middle,
        dtype=dtype,
        scan=scan,
        name=f"attentions_{index}",
    )
