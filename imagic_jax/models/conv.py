"""Two-dimensional convolution with PyTorch's meaning (NHWC data, HWIO kernels)."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.init import torch_uniform
from imagic_jax.typing import Array, DType, Features, Float


class Conv(nn.Module):
    """`torch.nn.Conv2d(in, features, kernel_size, stride, padding)` with a bias."""

    features: int
    kernel_size: int = 3
    stride: int = 1
    padding: int = 1
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Features) -> Float[Array, "b h2 w2 o"]:
        """Convolves in `dtype`."""
        shape = (self.kernel_size, self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", torch_uniform, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        out = conv2d(x.astype(self.dtype), kernel.astype(self.dtype), self.stride, self.padding)
        return out + bias.astype(self.dtype)


def conv2d(
    x: Features, kernel: Float[Array, "k k c o"], stride: int, padding: int
) -> Float[Array, "b h2 w2 o"]:
    """Cross-correlation of x with kernel; `padding` zeros are added on all four sides."""
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(stride, stride),
        padding=[(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
