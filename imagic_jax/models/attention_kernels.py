"""Attention of many pixels by a device's own kernel: the same function without its score matrix.

At 64 x 64 pixels the scores of one layer are half a gigabyte in float32, which every step of an
optimisation writes and reads several times. TPUs have a Pallas kernel, NVIDIA GPUs cuDNN's; both
keep the scores on the chip (Dao et al. 2022, arXiv:2205.14135), with softmax and sums in float32.
Short attentions, such as those to 77 tokens of text, stay plain: there a kernel gains nothing.

A network is told its kernel from outside, as editors change attention: `attending` wraps the call.
"""

import contextlib
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models.attention import Attention
from imagic_jax.typing import Array, DType, Float

Kernel = Literal["plain", "flash", "cudnn"]
KERNELS: tuple[Kernel, ...] = ("plain", "flash", "cudnn")
#: Which kernel a kind of device gets unasked. cuDNN's is there on request (`config.attention`): its
#: values have not been checked on a GPU yet.
OF_PLATFORM: dict[str, Kernel] = {"tpu": "flash"}

_BLOCK = 512  # queries and keys that TPU's kernel holds at a time
_LANES = 128  # a TPU's vectors: narrower heads are padded with zeros, which changes nothing
_LONG = {"flash": 2**22, "cudnn": 2**20}  # scores per head from which a kernel is worth it


@contextlib.contextmanager
def attending(kernel: Kernel):
    """Inside the block, `Attention.attend` uses `kernel` wherever it fits."""

    def intercept(call: Any, arguments: Any, keywords: Any, context: nn.module.InterceptorContext):
        if context.method_name != "attend" or not isinstance(context.module, Attention):
            return call(*arguments, **keywords)
        q, k, v = arguments
        if not fits(kernel, q.shape[1], k.shape[1], q.shape[-1], q.dtype):
            return call(*arguments, **keywords)
        return {"flash": flash, "cudnn": cudnn}[kernel](q, k, v)

    if kernel == "plain":
        yield
        return
    with nn.intercept_methods(intercept):
        yield


def fits(kernel: Kernel, queries: int, keys: int, width: int, dtype: DType) -> bool:
    """Whether `kernel` can do attention of so many queries to so many keys, and is worth it.

    Args:
        width: of a head.
        dtype: of queries, keys and values.
    """
    size = jnp.dtype(dtype).itemsize
    if kernel == "plain" or queries * keys < _LONG[kernel]:
        return False
    if kernel == "cudnn":  # its backward pass takes heads of 128 at most on Ampere
        return size == 2 and width % 8 == 0 and width <= 128
    wanted = queries % _BLOCK == 0 and keys % _BLOCK == 0 and width <= 2 * _LANES
    return wanted and size <= 4 and not _divided_by_compiler()


def _divided_by_compiler() -> bool:
    """Whether XLA divides this program over devices: it cannot divide a Pallas kernel."""
    mesh = jax.sharding.get_abstract_mesh()
    return any(mesh.shape[axis] > 1 for axis in mesh.auto_axes)


def flash(
    q: Float[Array, "b n heads d"], k: Float[Array, "b m heads d"], v: Float[Array, "b m heads d"]
) -> Float[Array, "b n heads d"]:
    """Attention by TPU's Pallas kernel."""
    # slow to import, and of no use elsewhere
    from jax.experimental.pallas.ops.tpu import flash_attention as pallas

    width = q.shape[-1]
    rest = -width % _LANES
    q, k, v = (jnp.pad(x.swapaxes(1, 2), ((0, 0),) * 3 + ((0, rest),)) for x in (q, k, v))
    names = [f for f in pallas.BlockSizes.__dataclass_fields__ if f != "block_b"]
    sizes = pallas.BlockSizes(block_b=1, **dict.fromkeys(names, _BLOCK))
    out = pallas.flash_attention(q, k, v, sm_scale=width**-0.5, block_sizes=sizes)
    return out[..., :width].swapaxes(1, 2)


def cudnn(
    q: Float[Array, "b n heads d"], k: Float[Array, "b m heads d"], v: Float[Array, "b m heads d"]
) -> Float[Array, "b n heads d"]:
    """Attention by cuDNN's kernel."""
    return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")


def works(kernel: Kernel) -> bool:
    """Whether this machine can compile `kernel` and its gradient: drivers and versions differ."""
    if kernel == "plain":
        return True
    function = {"flash": flash, "cudnn": cudnn}[kernel]
    x = jax.ShapeDtypeStruct((1, 2 * _BLOCK, 1, 64), jnp.bfloat16)

    def loss(q: Array, k: Array, v: Array) -> Array:
        return function(q, k, v).astype(jnp.float32).sum()

    try:
        jax.jit(jax.grad(loss, (0, 1, 2))).lower(x, x, x).compile()
    except Exception:  # of whichever library; then attention is plain
        return False
    return True
