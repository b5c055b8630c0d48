"""What Guide-and-Rescale's guiders compare, and how: energies with a gradient, in little memory.

Titov et al. 2024, arXiv:2409.01322, section 4.2. Of the source's latent the queries and keys of
every layer are kept, which are small; the maps that they make are compared head by head and block
by block inside the layer, and made again for the gradient, so that no map ever leaves a layer.

In added-KV attention, where text and pixels share one softmax, a map is its part among pixels,
renormalised: the softmax over the pixels' keys alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagic_jax.backbones.contracts import Cond, Extra, Interceptor, Site, Stage, stack
from imagic_jax.editors import attention
from imagic_jax.editors.attention import Call
from imagic_jax.models.norms import statistics_dtype
from imagic_jax.typing import Params

_ROWS = 1024  # queries whose maps are held at once
Features = Literal["detail", "layout"]
Maps = dict[tuple[str, ...], tuple[Array, Array]]  # queries and keys by layer


@dataclasses.dataclass(frozen=True)
class Compared:
    """What is compared; static.

    Attributes:
        features: "detail" compares the last level's output (mean absolute difference), "layout" the
            block of `attention.layout_block` (mean square), seen under the target text.
        layers: how many attention layers, those on the coarsest grids first; 0 for all.
    """

    features: Features = "detail"
    layers: int = 0


def compared_sites(stage: Stage, layers: int) -> tuple[Site, ...]:
    """The self-attentions that are compared."""
    sites = attention.self_sites(stage)
    return tuple(sorted(sites, key=lambda s: s.side)[: layers or len(sites)])


def tap_features(stage: Stage, features: Features, change: Callable) -> Interceptor:
    """Runs `change` on the features that are compared."""
    if features == "layout":
        return attention.at_output(attention.layout_block(stage).path, change, "features")
    last = stage.sites()[-1].path[0]  # the last level on the way up
    return attention.at_output((last,), change)


def reading(stage: Stage, how: Compared) -> Interceptor:
    """Hands out queries, pixel keys and features of a batch's last row."""

    def note(call: Call) -> Array:
        call.sow("queries", call.q[-1:])
        call.sow("keys", call.k[-1:, call.text_keys :])
        return call.own(call.q, call.k, call.v)

    def keep(h: Array, module: nn.Module) -> Array:
        module.sow("intermediates", "features", h[-1:])
        return h

    at = attention.at_attention(compared_sites(stage, how.layers), note)
    return attention.both(at, tap_features(stage, how.features, keep))


def comparing(stage: Stage, how: Compared, maps: Maps, kept: Array) -> Interceptor:
    """Hands out both energies: of maps for a batch's first row, of features for its last."""

    def compare(call: Call) -> Array:
        q, k = call.q[:1], call.k[:1, call.text_keys :]
        call.sow("maps", map_distance(q, k, *maps[call.module.path]))
        return call.own(call.q, call.k, call.v)

    def difference(h: Array, module: nn.Module) -> Array:
        wide = statistics_dtype(h.dtype)
        apart = h[-1:].astype(wide) - kept.astype(wide)
        size = jnp.square(apart) if how.features == "layout" else jnp.abs(apart)
        module.sow("intermediates", "apart", size.mean())
        return h

    at = attention.at_attention(compared_sites(stage, how.layers), compare)
    return attention.both(at, tap_features(stage, how.features, difference))


def map_distance(
    q: Float[Array, "1 n heads d"],
    k: Float[Array, "1 n heads d"],
    q_kept: Float[Array, "1 n heads d"],
    k_kept: Float[Array, "1 n heads d"],
) -> Float[Array, ""]:
    """mean (A - A*)^2 over heads and entries of A = softmax(q k^T / sqrt d), in float32.

    One block of one head at a time, made again for the gradient: memory is that of a block.
    """
    n, heads, d = q.shape[1:]
    rows = _ROWS if n % _ROWS == 0 else n
    wide = statistics_dtype(q.dtype)

    def maps(q: Array, k: Array) -> Array:
        return jax.nn.softmax(jnp.matmul(q, k.T, preferred_element_type=wide) * d**-0.5)

    def head(one: tuple[Array, ...]) -> Array:
        q, k, q_kept, k_kept = one

        @jax.checkpoint
        def block(pair: tuple[Array, Array]) -> Array:
            return jnp.square(maps(pair[0], k) - maps(pair[1], k_kept)).sum()

        blocks = tuple(a.reshape(n // rows, rows, d) for a in (q, q_kept))
        return jax.lax.map(block, blocks).sum()

    apart = jax.lax.map(head, tuple(a[0].swapaxes(0, 1) for a in (q, k, q_kept, k_kept)))
    return apart.sum() / (heads * n * n)


def energy(
    stage: Stage,
    params: Params,
    how: Compared,
    weights: tuple[Float[Array, ""], Float[Array, ""]],
    kept: tuple[Maps, Array],
    source: Cond,
    target: Cond,
    z: Array,
    t: Array,
) -> Float[Array, ""]:
    """g of one latent (1, h, w, c) against what was read of the source's."""
    layout = how.features == "layout"
    texts = stack(source, target) if layout else source  # features under the target there
    rows = jnp.concatenate([z, z]) if layout else z
    compare = comparing(stage, how, *kept)
    _, aux = stage.predict(params, rows, t, texts, Extra(), compare)
    (apart,) = attention.handed_out(aux, "apart").values()
    maps = sum(attention.handed_out(aux, "maps").values())
    return weights[0] * maps + weights[1] * apart
