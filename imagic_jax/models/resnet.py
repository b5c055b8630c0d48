"""The residual block of the UNets and the VAE, and its ways of taking in the time embedding."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.activations import activation
from imagic_jax.models.conv import Conv
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import GroupNorm
from imagic_jax.typing import Array, DType, Features, Float, TimeEmbedding


class ResnetBlock(nn.Module):
    """diffusers' `ResnetBlock2D`.

    Attributes:
      scale_shift: the time embedding scales and shifts the second norm's output (DeepFloyd IF);
        otherwise it is added before that norm.
      skip_time_act: the time embedding arrives already activated.
      output_scale: what the sum of both branches is divided by.
      resample: halve or double the resolution inside the block, before its first convolution.
    """

    features_out: int
    num_groups: int
    epsilon: float
    act: str
    scale_shift: bool = False
    skip_time_act: bool = False
    output_scale: float = 1.0
    resample: Literal["down", "up"] | None = None
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Features, temb: TimeEmbedding | None) -> Float[Array, "b h2 w2 o"]:
        """Maps features to `features_out` channels, conditioned on the time embedding if any."""
        act = activation(self.act)
        h = act(GroupNorm(self.num_groups, self.epsilon, self.dtype, name="norm1")(x))
        if self.resample is not None:
            x, h = resample(x, self.resample), resample(h, self.resample)
        h = Conv(self.features_out, dtype=self.dtype, name="conv1")(h)

        norm2 = GroupNorm(self.num_groups, self.epsilon, self.dtype, name="norm2")
        if temb is None:
            h = norm2(h)
        else:
            t = temb if self.skip_time_act else act(temb)
            width = 2 * self.features_out if self.scale_shift else self.features_out
            t = Linear(width, dtype=self.dtype, name="time_emb_proj")(t)[:, None, None, :]
            if self.scale_shift:
                scale, shift = jnp.split(t, 2, axis=-1)
                h = norm2(h) * (1 + scale) + shift
            else:
                h = norm2(h + t)
        h = Conv(self.features_out, dtype=self.dtype, name="conv2")(act(h))

        if x.shape[-1] != self.features_out:
            x = Conv(self.features_out, 1, padding=0, dtype=self.dtype, name="conv_shortcut")(x)
        return self.features((x + h) / self.output_scale)

    def features(self, h: Features) -> Features:
        """Returns the block's output h as it is: the place for editors to intercept features."""
        return h


def resample(x: Features, how: Literal["down", "up"]) -> Float[Array, "b h2 w2 c"]:
    """Halves the resolution by 2x2 means, or doubles it by repetition."""
    batch, height, width, channels = x.shape
    if how == "down":
        return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
    x = jnp.broadcast_to(x[:, :, None, :, None, :], (batch, height, 2, width, 2, channels))
    return x.reshape(batch, 2 * height, 2 * width, channels)


class Downsample(nn.Module):
    """A 3x3 convolution of stride 2, one zero of padding on all sides."""

    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b h2 w2 c"]:
        """Halves the resolution."""
        return Conv(x.shape[-1], stride=2, dtype=self.dtype, name="conv")(x)


class Upsample(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution."""

    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b h2 w2 c"]:
        """Doubles the resolution."""
        return Conv(x.shape[-1], dtype=self.dtype, name="conv")(resample(x, "up"))
