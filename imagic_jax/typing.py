"""The named array shapes of the project (floor 0: imports nothing of ours).

Axis names: b batch, h height, w width, c channels, l tokens, d width of a token, n queries,
m keys, p width of a pooled text, e width of a time embedding. Pictures and features are NHWC.
Within one annotated function an axis name stands for one size, so functions that change a size use
their own names in place of an alias.
"""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Array, Bool, Float, Int, Key, Num, PRNGKeyArray

__all__ = [
    "Array",
    "Bool",
    "DType",
    "Features",
    "Float",
    "Image",
    "Int",
    "Key",
    "Latent",
    "Num",
    "PRNGKeyArray",
    "Params",
    "Pooled",
    "Scalar",
    "TextMask",
    "TextStates",
    "TimeEmbedding",
    "Timesteps",
    "Tokens",
]

Params = Mapping[str, Any]
"""A Flax parameter tree: nested mappings from names to arrays."""

DType = Any
"""Anything NumPy takes for a dtype (`jnp.bfloat16`, `"float32"`, ...)."""

Image = Float[Array, "b _ _ 3"]
"""Pictures, in [-1, 1] unless a function says otherwise; of any size, beside others in a call."""

Latent = Float[Array, "b h w c"]
"""What a diffusion model's trunk sees: latents, pixels, or pixels moved to channels."""

Features = Float[Array, "b h w c"]
"""Activations inside a convolutional network."""

Tokens = Int[Array, "b l"]
"""Token ids."""

TextMask = Num[Array, "b l"] | Bool[Array, "b l"]
"""Nonzero (true) at real tokens, zero at padding."""

TextStates = Float[Array, "b l d"]
"""Last hidden states of a text encoder."""

Pooled = Float[Array, "b p"]
"""One vector for a whole text (or picture)."""

TimeEmbedding = Float[Array, "b e"]
"""What conditions a UNet's residual blocks: time, noise level, pooled text."""

Timesteps = Num[Array, ""] | Num[Array, "b"]
"""One timestep for the batch or one for each element; never kept in bf16 (999 becomes 1000)."""

Scalar = Float[Array, ""] | float
"""One real number, traced or not."""
