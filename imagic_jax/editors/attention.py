"""Reading and changing a network's attention and features from outside of it.

An interceptor (`flax.linen.intercept_methods`, entered inside `Stage.predict`) sees every call of
the networks' small named methods. The model files know nothing of it, and whatever is not touched
runs as it always does, fused attention included. Values leave by `sow`, never through Python lists.

In added-KV attention (Imagen, DeepFloyd IF) text and pixels share one softmax. It is read in three
parts that make it up again: what a pixel reads from the text, what it reads from the pixels, each
summing to 1, and the text's share. Methods change the first two and leave the share alone.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagic_jax.backbones.contracts import Cascade, Interceptor, Site, Stage
from imagic_jax.models.attention import Attention
from imagic_jax.models.norms import statistics_dtype


class Call(NamedTuple):
    """One attention: (b, n, heads, d) queries, (b, m, heads, d) keys and values.

    The first `text_keys` of the keys are text. `own` is the layer's attention as it is; `module`
    is there to `sow` on.
    """

    q: Array
    k: Array
    v: Array
    text_keys: int
    own: Callable[[Array, Array, Array], Array]
    module: nn.Module

    def sow(self, name: str, value: Array) -> None:
        """Hands a value out; see `handed_out`."""
        self.module.sow("intermediates", name, value)


class Parts(NamedTuple):
    """An attention's maps; `text` or `pixels` is None where it has no such keys."""

    text: Float[Array, "b heads n l"] | None
    pixels: Float[Array, "b heads n p"] | None
    share: Float[Array, "b heads n 1"]  # of the text


def at_attention(sites: Collection[Site], change: Callable[[Call], Array]) -> Interceptor:
    """Runs `change` in place of the attention at `sites`; it returns (b, n, heads, d)."""
    where = {site.path for site in sites}

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if context.method_name != "attend" or not isinstance(module, Attention):
            return call(*args, **kwargs)
        if module.path not in where:
            return call(*args, **kwargs)

        def own(q: Array, k: Array, v: Array) -> Array:
            return call(q, k, v, **kwargs)

        q, k, v = args
        return change(Call(q, k, v, kwargs["text_keys"], own, module))

    return intercept


def at_output(
    path: tuple[str, ...], change: Callable[[Array, nn.Module], Array], method: str = "__call__"
) -> Interceptor:
    """Runs `change` on what the module at `path` returns."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        out = call(*args, **kwargs)
        if context.method_name != method or context.module.path != path:
            return out
        return change(out, context.module)

    return intercept


def both(first: Interceptor, second: Interceptor) -> Interceptor:
    """Two interceptors as one."""

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        def inner(*a: Any, **k: Any) -> Any:
            return second(call, a, k, context)

        return first(inner, args, kwargs, context)

    return intercept


def handed_out(aux: Mapping[str, Any], name: str) -> dict[tuple[str, ...], Array]:
    """What interceptors sowed under `name`, by the path of the module, out of `predict`'s aux."""
    found: dict[tuple[str, ...], Array] = {}

    def walk(tree: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for key, value in tree.items():
            if isinstance(value, Mapping):
                walk(value, (*path, key))
            elif key == name:
                (found[path],) = value

    walk(aux.get("intermediates", {}), ())
    return found


def parts(q: Float[Array, "b n heads d"], k: Float[Array, "b m heads d"], text_keys: int) -> Parts:
    """The maps of an attention, in float32."""
    wide = statistics_dtype(q.dtype)
    scores = jnp.einsum("bnhd,bmhd->bhnm", q, k, preferred_element_type=wide)
    scores *= q.shape[-1] ** -0.5
    told, seen = scores[..., :text_keys], scores[..., text_keys:]
    one = jnp.ones((*scores.shape[:-1], 1), wide)
    if not text_keys:
        return Parts(None, jax.nn.softmax(seen), 0 * one)
    if text_keys == k.shape[1]:
        return Parts(jax.nn.softmax(told), None, one)
    lead = jax.nn.logsumexp(told, -1, keepdims=True) - jax.nn.logsumexp(seen, -1, keepdims=True)
    return Parts(jax.nn.softmax(told), jax.nn.softmax(seen), jax.nn.sigmoid(lead))


def read(maps: Parts, v: Float[Array, "b m heads d"]) -> Float[Array, "b n heads d"]:
    """What attention with these maps reads from the values."""
    text_keys = 0 if maps.text is None else maps.text.shape[-1]
    out: Any = 0
    for map_, values, share in (
        (maps.text, v[:, :text_keys], maps.share),
        (maps.pixels, v[:, text_keys:], 1 - maps.share),
    ):
        if map_ is not None:
            made = jnp.einsum("bhnm,bmhd->bhnd", map_, values.astype(map_.dtype))
            out = out + share * made
    return out.swapaxes(1, 2).astype(v.dtype)


def cross_sites(stage: Stage) -> tuple[Site, ...]:
    """Where pixels read the text."""
    return tuple(s for s in stage.sites() if s.role in ("cross", "joint"))


def self_sites(stage: Stage) -> tuple[Site, ...]:
    """Where pixels read each other."""
    return tuple(s for s in stage.sites() if s.role in ("self", "joint"))


def layout_block(stage: Stage) -> Site:
    """The residual block whose features say how a picture is laid out.

    The second of the first level upwards that has attention: `up_blocks_1/resnets_1` of Stable
    Diffusion 1 and 2 (Tumanyan et al. 2023's layer 4).
    """
    wanted = (attention_upwards(stage)[0].path[0], "resnets_1")
    return next(s for s in stage.sites() if s.path == wanted)


def refuses(cascade: Cascade) -> str | None:
    """Why methods that read attention cannot work on a cascade, or None (see `Method.refuses`)."""
    sites = attention_upwards(cascade.stages[0])
    if sites:
        return None
    return f"the base stage of {cascade.name} has no attention among pixels on its way up"


def attention_upwards(stage: Stage) -> tuple[Site, ...]:
    """Where pixels read each other on the way up."""
    return tuple(s for s in self_sites(stage) if s.path[0].startswith("up_blocks"))
