"""Where an edit belongs, as the model itself says: LEDITS++'s implicit masks.

Brack et al. 2024, arXiv:2311.16711, section 3.3. M1 is where pixels attend to a concept's words, M2
where its noise estimate differs from the empty text's. Both keep their upper 1 - lambda.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from imagic_jax.backbones.contracts import Interceptor, Site, Stage
from imagic_jax.editors import attention
from imagic_jax.editors.attention import Call
from imagic_jax.editors.prompt_to_prompt import place_sites

#: The authors' 3 x 3 Gaussian, on either axis.
SMOOTHING = np.exp(-np.square(np.arange(-1.0, 2.0)))


class Masks(NamedTuple):
    """What confines the concepts; all traced."""

    attention: Bool[Array, ""]
    noise: Bool[Array, ""]
    given: Float[Array, "1 #h #w #c"]  # the user's, over x_t


def sites(stage: Stage) -> list[Site]:
    """Where words are read, on a quarter of x_t's grid, on the way down and up."""
    found = place_sites(stage)
    return [s for s in found if not s.path[0].startswith("mid")] or found


def reading(stage: Stage, words: Float[Array, "j l"]) -> Interceptor:
    """Sows how much the pixels of the last j rows attend to their words: (j, n), heads summed."""
    count = words.shape[0]

    def read(call: Call) -> Array:
        maps = attention.parts(call.q[-count:], call.k[-count:], call.text_keys)
        assert maps.text is not None
        call.sow("read", jnp.einsum("jhnl,jl->jn", maps.text, words.astype(maps.text.dtype)))
        return call.own(call.q, call.k, call.v)

    return attention.at_attention(sites(stage), read)


def attention_mask(
    read: Float[Array, "j n"], threshold: Float[Array, " j"], side: int
) -> Float[Array, "j 1 side side 1"]:
    """M1: smoothed, the upper 1 - threshold as ones, on a grid of `side` cells."""
    small = round(read.shape[1] ** 0.5)
    maps = jnp.pad(read.reshape(-1, small, small), ((0, 0), (1, 1), (1, 1)), mode="reflect")
    weights = jnp.asarray(np.outer(SMOOTHING, SMOOTHING) / np.sum(SMOOTHING) ** 2, maps.dtype)
    windows = [
        weights[i, j] * maps[:, i : i + small, j : j + small] for i in range(3) for j in range(3)
    ]
    smooth = sum(windows[1:], windows[0])
    least = jax.vmap(jnp.quantile)(smooth.reshape(len(smooth), -1), threshold)
    mask = (smooth >= least[:, None, None]).astype(maps.dtype)
    nearest = np.arange(side) * small // side
    return mask[:, nearest][:, :, nearest][:, None, :, :, None]


def noise_mask(
    g: Float[Array, "j 1 h w c"], threshold: Float[Array, " j"]
) -> Float[Array, "j 1 h w 1"]:
    """M2: the positions where g, summed over channels, is in its upper 1 - threshold."""
    size = jnp.sum(jnp.abs(g), axis=-1, keepdims=True)
    least = jax.vmap(lambda s, q: jnp.quantile(s, q))(size, threshold)
    return (size >= least[:, None, None, None, None]).astype(g.dtype)


def confined(
    g: Float[Array, "j 1 h w c"],
    read: Float[Array, "j n"],
    threshold: Float[Array, " j"],
    noisy: Bool[Array, ""],
    masks: Masks,
) -> Float[Array, "j 1 h w c"]:
    """The directions where their masks are 1, else 0."""
    g = g * masks.given
    one = jnp.ones((), g.dtype)
    here = jnp.where(masks.attention, attention_mask(read, threshold, g.shape[2]), one)
    alone = masks.attention & noisy
    there = jnp.where(masks.noise & ~alone, noise_mask(g, threshold), one)
    return g * here.astype(g.dtype) * there
