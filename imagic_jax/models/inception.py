"""The Inception v3 of FID (Heusel et al. 2017; TensorFlow's graph of 2015-12-05) up to `pool3`.

Names are those of pytorch-fid and torch-fidelity. It differs from torchvision's network: average
pooling does not count padding, and the last block pools by maximum. Batch norms are frozen: their
running statistics are parameters like any other.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.activations import relu
from imagic_jax.models.init import torch_uniform
from imagic_jax.models.pooling import max_pool, mean_of_neighbours
from imagic_jax.typing import Array, Features, Float, Image

SIZE = 299  # pixels per side that it was trained on


class FIDInception(nn.Module):
    """`FeatureExtractorInceptionV3` of torch-fidelity, its feature "2048".

    Attributes:
      shrink: divides every width, for small networks in tests.
    """

    shrink: int = 1

    @nn.compact
    def __call__(self, x: Image) -> Float[Array, "b p"]:
        """Pictures in [-1, 1], of 299 pixels per side (any from 75 on works), to features."""
        conv = partial(ConvNorm, shrink=self.shrink)
        h = conv(32, stride=2, name="Conv2d_1a_3x3")(x)
        h = conv(32, name="Conv2d_2a_3x3")(h)
        h = conv(64, padding=(1, 1), name="Conv2d_2b_3x3")(h)
        h = max_pool(h, 3, 2)
        h = conv(80, (1, 1), name="Conv2d_3b_1x1")(h)
        h = conv(192, name="Conv2d_4a_3x3")(h)
        h = max_pool(h, 3, 2)
        for letter, pooled in zip("bcd", (32, 64, 64), strict=True):
            h = BlockA(pooled, self.shrink, name=f"Mixed_5{letter}")(h)
        h = BlockB(self.shrink, name="Mixed_6a")(h)
        for letter, inner in zip("bcde", (128, 160, 160, 192), strict=True):
            h = BlockC(inner, self.shrink, name=f"Mixed_6{letter}")(h)
        h = BlockD(self.shrink, name="Mixed_7a")(h)
        h = BlockE(False, self.shrink, name="Mixed_7b")(h)
        h = BlockE(True, self.shrink, name="Mixed_7c")(h)
        return h.mean(axis=(1, 2))


class ConvNorm(nn.Module):
    """`BasicConv2d`: convolution without bias, frozen batch norm, ReLU."""

    features: int
    kernel_size: tuple[int, int] = (3, 3)
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    shrink: int = 1

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h2 w2 o"]:
        """Convolves, normalises, rectifies."""
        width, (high, wide) = self.features // self.shrink, self.padding
        kernel = Kernel((*self.kernel_size, h.shape[-1], width), name="conv")()
        h = jax.lax.conv_general_dilated(
            h,
            kernel,
            (self.stride, self.stride),
            ((high, high), (wide, wide)),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return relu(FrozenBatchNorm(name="bn")(h))


class Kernel(nn.Module):
    """A convolution's weight alone."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> Array:
        """The weight, HWIO."""
        return self.param("kernel", torch_uniform, self.shape)


class FrozenBatchNorm(nn.Module):
    """`torch.nn.BatchNorm2d(eps=0.001)` in evaluation mode."""

    @nn.compact
    def __call__(self, h: Features) -> Features:
        """Normalises each channel by its running statistics."""
        ones, zeros, shape = nn.initializers.ones, nn.initializers.zeros, (h.shape[-1],)
        scale, bias = self.param("scale", ones, shape), self.param("bias", zeros, shape)
        mean = self.param("running_mean", zeros, shape)
        variance = self.param("running_var", ones, shape)
        factor = scale * jax.lax.rsqrt(variance + 0.001)
        return h * factor + (bias - mean * factor)


class BlockA(nn.Module):
    """35 x 35: 1x1, 5x5 and twice 3x3 convolutions and a pooled branch."""

    pooled: int
    shrink: int = 1

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h w o"]:
        """Branches side by side in channels."""
        one = partial(ConvNorm, kernel_size=(1, 1), shrink=self.shrink)
        three = partial(ConvNorm, padding=(1, 1), shrink=self.shrink)
        five = partial(ConvNorm, kernel_size=(5, 5), padding=(2, 2), shrink=self.shrink)
        b5 = five(64, name="branch5x5_2")(one(48, name="branch5x5_1")(h))
        b3 = three(96, name="branch3x3dbl_2")(one(64, name="branch3x3dbl_1")(h))
        b3 = three(96, name="branch3x3dbl_3")(b3)
        pooled = one(self.pooled, name="branch_pool")(mean_of_neighbours(h))
        return jnp.concatenate([one(64, name="branch1x1")(h), b5, b3, pooled], axis=-1)


class BlockB(nn.Module):
    """35 x 35 to 17 x 17."""

    shrink: int = 1

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h2 w2 o"]:
        """Branches side by side in channels."""
        conv = partial(ConvNorm, shrink=self.shrink)
        b = conv(64, (1, 1), name="branch3x3dbl_1")(h)
        b = conv(96, padding=(1, 1), name="branch3x3dbl_2")(b)
        b = conv(96, stride=2, name="branch3x3dbl_3")(b)
        first = conv(384, stride=2, name="branch3x3")(h)
        return jnp.concatenate([first, b, max_pool(h, 3, 2)], axis=-1)


class BlockC(nn.Module):
    """17 x 17: 7x7 convolutions as pairs of 1x7 and 7x1."""

    inner: int
    shrink: int = 1

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h w o"]:
        """Branches side by side in channels."""
        one = partial(ConvNorm, kernel_size=(1, 1), shrink=self.shrink)
        row = partial(ConvNorm, kernel_size=(1, 7), padding=(0, 3), shrink=self.shrink)
        column = partial(ConvNorm, kernel_size=(7, 1), padding=(3, 0), shrink=self.shrink)
        b = row(self.inner, name="branch7x7_2")(one(self.inner, name="branch7x7_1")(h))
        b = column(192, name="branch7x7_3")(b)
        d = column(self.inner, name="branch7x7dbl_2")(one(self.inner, name="branch7x7dbl_1")(h))
        d = row(self.inner, name="branch7x7dbl_3")(d)
        d = column(self.inner, name="branch7x7dbl_4")(d)
        d = row(192, name="branch7x7dbl_5")(d)
        pooled = one(192, name="branch_pool")(mean_of_neighbours(h))
        return jnp.concatenate([one(192, name="branch1x1")(h), b, d, pooled], axis=-1)


class BlockD(nn.Module):
    """17 x 17 to 8 x 8."""

    shrink: int = 1

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h2 w2 o"]:
        """Branches side by side in channels."""
        conv = partial(ConvNorm, shrink=self.shrink)
        a = conv(192, (1, 1), name="branch3x3_1")(h)
        a = conv(320, stride=2, name="branch3x3_2")(a)
        b = conv(192, (1, 1), name="branch7x7x3_1")(h)
        b = conv(192, (1, 7), padding=(0, 3), name="branch7x7x3_2")(b)
        b = conv(192, (7, 1), padding=(3, 0), name="branch7x7x3_3")(b)
        b = conv(192, stride=2, name="branch7x7x3_4")(b)
        return jnp.concatenate([a, b, max_pool(h, 3, 2)], axis=-1)


class BlockE(nn.Module):
    """8 x 8: branches that split into 1x3 and 3x1; `by_maximum` says how the last one pools."""

    by_maximum: bool
    shrink: int = 1

    @nn.compact
    def __call__(self, h: Features) -> Float[Array, "b h w o"]:
        """Branches side by side in channels."""
        conv = partial(ConvNorm, shrink=self.shrink)

        def split(x: Features, name: str) -> list[Features]:
            row = conv(384, (1, 3), padding=(0, 1), name=f"{name}a")
            column = conv(384, (3, 1), padding=(1, 0), name=f"{name}b")
            return [row(x), column(x)]

        a = split(conv(384, (1, 1), name="branch3x3_1")(h), "branch3x3_2")
        b = conv(448, (1, 1), name="branch3x3dbl_1")(h)
        b = conv(384, padding=(1, 1), name="branch3x3dbl_2")(b)
        pooled = max_pool(h, 3, 1, 1) if self.by_maximum else mean_of_neighbours(h)
        pooled = conv(192, (1, 1), name="branch_pool")(pooled)
        first = conv(320, (1, 1), name="branch1x1")(h)
        return jnp.concatenate([first, *a, *split(b, "branch3x3dbl_3"), pooled], axis=-1)
