"""The linear layer."""

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.init import torch_uniform
from imagic_jax.typing import Array, DType, Float


class Linear(nn.Module):
    """`torch.nn.Linear`: x @ kernel + bias in `dtype`, kernel (in, out)."""

    features: int
    use_bias: bool = True
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch d"]:
        """Maps the last axis to width `features`."""
        kernel = self.param("kernel", torch_uniform, (x.shape[-1], self.features))
        y = x.astype(self.dtype) @ kernel.astype(self.dtype)
        if not self.use_bias:
            return y
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return y + bias.astype(self.dtype)
