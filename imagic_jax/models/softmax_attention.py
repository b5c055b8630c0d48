"""`softmax(q k^T / sqrt(d)) v`, as every network here computes it; long ones a block at a time.

A self-attention over 64 x 64 pixels has 17 million scores per head: on CPU they do not fit a cache,
and kept for the gradient they fill memory. There, and everywhere once the scores of a head alone
would take gigabytes, blocks of queries are done one after the other, and long attentions of any
kind are computed again for the gradient in place of being kept (Rabe & Staats 2021,
arXiv:2112.05682). The result is the same function.
"""

from functools import partial

import jax
import jax.numpy as jnp

from imagic_jax.models.norms import statistics_dtype
from imagic_jax.typing import Array, Float

_ROWS = 512  # queries in a block
_LONG = 2**22  # scores per head
_TOO_LONG = 2**28  # scores per head: 1 GiB in float32


def softmax_attention(
    q: Float[Array, "*b n d"], k: Float[Array, "*b m d"], v: Float[Array, "*b m d2"]
) -> Float[Array, "*b n d2"]:
    """Attention of one head or several; scores and softmax in float32 (float64 for float64)."""
    scores = q.shape[-2] * k.shape[-2]
    if scores < _LONG or q.shape[-2] % _ROWS:
        return whole(q, k, v)
    if scores >= _TOO_LONG:
        return in_blocks(q, k, v)
    return jax.lax.platform_dependent(q, k, v, cpu=in_blocks, default=jax.checkpoint(whole))


def whole(
    q: Float[Array, "*b n d"], k: Float[Array, "*b m d"], v: Float[Array, "*b m d2"]
) -> Float[Array, "*b n d2"]:
    """All scores at once."""
    wide = statistics_dtype(q.dtype)
    scores = jnp.matmul(q, k.mT, preferred_element_type=wide)
    scores -= jax.lax.stop_gradient(scores.max(-1, keepdims=True))
    weights = jnp.exp(scores * q.shape[-1] ** -0.5)
    # softmax(scores) v, with the division after the product: on d columns in place of m
    out = jnp.matmul(weights.astype(v.dtype), v, preferred_element_type=wide)
    # ... and as a product: XLA writes a quotient by a broadcast so in some programs only, and
    # results shall not depend on how many devices a program is for.
    return (out * (1.0 / weights.sum(-1, keepdims=True))).astype(v.dtype)


@jax.checkpoint
def in_blocks(
    q: Float[Array, "*b n d"], k: Float[Array, "*b m d"], v: Float[Array, "*b m d2"]
) -> Float[Array, "*b n d2"]:
    """The same, head by head and `_ROWS` queries at a time."""
    *outer, n, d = q.shape

    def head(one: tuple[Array, Array, Array]) -> Array:
        q, k, v = one
        block = jax.checkpoint(partial(_block, k=k, v=v))
        return jax.lax.map(block, q.reshape(n // _ROWS, _ROWS, d)).reshape(n, -1)

    flat = tuple(a.reshape(-1, *a.shape[-2:]) for a in (q, k, v))
    return jax.lax.map(head, flat).reshape(*outer, n, -1)


def _block(q: Array, k: Array, v: Array) -> Array:
    return whole(q, k, v)
