"""Two-dimensional convolution with PyTorch's meaning (NHWC data, HWIO kernels).

Its gradient is its own. Inside `lax.scan` and `while` XLA's CPU backend computes the gradients of
convolutions by a naive path (jax-ml/jax#12868): weight gradients at 1-2 GFLOP/s where forward
convolutions and matrix products reach 100-200. So on CPU the gradients are written with those two;
on accelerators they stay XLA's. Which one is decided when a program is lowered for a platform.
`benchmarks/conv_gradients.py` measures both.

Where a kernel of many channels meets few pixels (Stable Diffusion's lower levels: 59 MB against 256
or 64 pixels), moving the kernel about is what costs. There, on CPU, the convolution and both its
gradients are one matrix product each, with the kernel as it lies in memory.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.init import torch_uniform
from imagic_jax.typing import Array, DType, Features, Float

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_MANY_CHANNELS = 512  # below, XLA's convolutions and ours are as fast or faster


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
    x: Features, kernel: Float[Array, "k k c o"], stride: int = 1, padding: int = 1
) -> Float[Array, "b h2 w2 o"]:
    """Cross-correlation of x with kernel; `padding` zeros are added on all four sides.

    Differentiable in reverse mode only (`jax.custom_vjp`).
    """
    if kernel.shape[:2] == (1, 1) and stride == 1 and padding == 0:
        return x @ kernel[0, 0]
    return _conv(*_varying_alike(x, kernel), stride, padding)


def _varying_alike(x: Array, kernel: Array) -> tuple[Array, Array]:
    """Inside `jax.shard_map`: both arrays marked as varying over the mesh axes of either.

    For its own operations JAX does this by itself, and so sums the gradient of a replicated kernel
    over the axes of the data. It does not look into gradients of ours: the mark must come before.
    """
    axes = _mesh_axes(x) | _mesh_axes(kernel)

    def marked(a: Array) -> Array:
        missing = tuple(axes - _mesh_axes(a))
        return jax.lax.pcast(a, missing, to="varying") if missing else a

    return marked(x), marked(kernel)


def _mesh_axes(array: Array) -> frozenset[str]:
    """Mesh axes over which an array varies; JAX 0.10 moved `vma` to `mat.varying`."""
    kind = jax.typeof(array)
    return kind.mat.varying if hasattr(kind, "mat") else kind.vma


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    if not _few_pixels(x, kernel, stride):
        return xla_conv(x, kernel, stride, padding)
    xlas = partial(xla_conv, stride=stride, padding=padding)
    ours = partial(product_conv, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=ours, default=xlas)


def _few_pixels(x: Array, kernel: Array, stride: int) -> bool:
    """Whether the kernel is so much larger than the picture that one product is faster on CPU."""
    channels = min(kernel.shape[2:])
    return stride == 1 and channels >= _MANY_CHANNELS and x.size // x.shape[3] <= channels


def _conv_forward(
    x: Array, kernel: Array, stride: int, padding: int
) -> tuple[Array, tuple[Array, Array]]:
    return _conv(x, kernel, stride, padding), (x, kernel)


def _conv_backward(
    stride: int, padding: int, saved: tuple[Array, Array], g: Array
) -> tuple[Array, Array]:
    """Chooses by platform, for each gradient apart: an unused one is then dropped as dead code."""

    def chosen(ours: Callable, xlas: Callable) -> Array:
        ours, xlas = (partial(f, stride=stride, padding=padding) for f in (ours, xlas))
        return jax.lax.platform_dependent(*saved, g, cpu=ours, default=xlas)

    return (
        chosen(input_gradient, xla_input_gradient),
        chosen(kernel_gradient, xla_kernel_gradient),
    )


_conv.defvjp(_conv_forward, _conv_backward)


def xla_conv(
    x: Features, kernel: Float[Array, "k k c o"], stride: int, padding: int
) -> Float[Array, "b h2 w2 o"]:
    """The convolution with XLA's own gradients."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(padding, padding)] * 2, dimension_numbers=_LAYOUT
    )


def input_gradient(
    x: Features,
    kernel: Float[Array, "k k c o"],
    g: Float[Array, "b h2 w2 o"],
    *,
    stride: int,
    padding: int,
) -> Features:
    """Gradient for x: g, spread by the stride, convolved with the kernel flipped and transposed."""
    if _few_pixels(x, kernel, stride):
        return _product_input_gradient(x, kernel, g, padding)
    before = kernel.shape[0] - 1 - padding
    # Behind, also the rows and columns of x that the stride never reached.
    after = [x.shape[a] - 1 + padding - stride * (g.shape[a] - 1) for a in (1, 2)]
    return jax.lax.conv_general_dilated(
        g,
        jnp.flip(kernel, (0, 1)).swapaxes(2, 3),
        (1, 1),
        [(before, after[0]), (before, after[1])],
        lhs_dilation=(stride, stride),
        dimension_numbers=_LAYOUT,
    )


def kernel_gradient(
    x: Features,
    kernel: Float[Array, "k k c o"],
    g: Float[Array, "b h2 w2 o"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "k k c o"]:
    """Gradient for the kernel: for each of its k x k positions one matrix product over pixels."""
    if _few_pixels(x, kernel, stride):
        columns = _columns(x, kernel.shape[0], padding)
        return (columns.T @ g.reshape(-1, g.shape[3])).reshape(kernel.shape)
    size, (height, width) = kernel.shape[0], g.shape[1:3]
    # The shifts may be given to x or, reversed, to g. Shifting g is faster (x, the operand to be
    # transposed, is then the same in all the products), but a stride can only skip pixels of x.
    shift_g = stride == 1 and x.shape == (*g.shape[:3], x.shape[3])
    moving, edge = (g, size - 1 - padding) if shift_g else (x, padding)
    moving = jnp.pad(moving, ((0, 0), (edge, edge), (edge, edge), (0, 0)))

    def product(i: int, j: int) -> Array:
        if shift_g:
            i, j = size - 1 - i, size - 1 - j
        last_i, last_j = i + stride * (height - 1) + 1, j + stride * (width - 1) + 1
        part = moving[:, i:last_i:stride, j:last_j:stride]
        return jnp.einsum("bhwc,bhwo->co", *((x, part) if shift_g else (part, g)))

    products = [product(i, j) for i in range(size) for j in range(size)]
    return jnp.stack(products).reshape(kernel.shape)


def product_conv(
    x: Features, kernel: Float[Array, "k k c o"], padding: int
) -> Float[Array, "b h2 w2 o"]:
    """The convolution of stride 1 as one matrix product (im2col)."""
    height, width = (n + 2 * padding - kernel.shape[0] + 1 for n in x.shape[1:3])
    columns = _columns(x, kernel.shape[0], padding)
    out = columns @ kernel.reshape(-1, kernel.shape[3])
    return out.reshape(x.shape[0], height, width, kernel.shape[3])


def _columns(x: Features, size: int, padding: int) -> Float[Array, "pixels kkc"]:
    """A row for each output pixel: the size x size input pixels that it reads."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    height, width = (n - size + 1 for n in x.shape[1:3])
    shifted = [x[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
    return jnp.concatenate(shifted, axis=3).reshape(-1, size * size * x.shape[3])


def _product_input_gradient(
    x: Features, kernel: Float[Array, "k k c o"], g: Float[Array, "b h2 w2 o"], padding: int
) -> Features:
    """`product_conv` transposed: one product, its k x k parts moved to their pixels and summed."""
    size, channels = kernel.shape[0], x.shape[3]
    product = g.reshape(-1, g.shape[3]) @ kernel.reshape(-1, g.shape[3]).T
    parts = product.reshape(*g.shape[:3], size, size, channels)

    def moved(i: int, j: int) -> Array:
        around = ((0, 0), (i, size - 1 - i), (j, size - 1 - j), (0, 0))
        return jnp.pad(parts[:, :, :, i, j], around)

    padded: Any = sum(moved(i, j) for i in range(size) for j in range(size))
    return padded[:, padding : padding + x.shape[1], padding : padding + x.shape[2]]


def xla_input_gradient(
    x: Features,
    kernel: Float[Array, "k k c o"],
    g: Float[Array, "b h2 w2 o"],
    *,
    stride: int,
    padding: int,
) -> Features:
    """XLA's own gradient for x."""
    return jax.linear_transpose(lambda x: xla_conv(x, kernel, stride, padding), x)(g)[0]


def xla_kernel_gradient(
    x: Features,
    kernel: Float[Array, "k k c o"],
    g: Float[Array, "b h2 w2 o"],
    *,
    stride: int,
    padding: int,
) -> Float[Array, "k k c o"]:
    """XLA's own gradient for the kernel."""
    return jax.linear_transpose(lambda k: xla_conv(x, k, stride, padding), kernel)(g)[0]
