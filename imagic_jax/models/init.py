"""Initialisers of fresh parameters."""

import flax.linen as nn

torch_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""PyTorch's default for linear and convolutional kernels: uniform in +-1/sqrt(fan_in)."""
