"""One metric of pairs, with its options, and what networks see in pairs, worked out once."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from imagic_jax.metrics import clip, dino, pie
from imagic_jax.metrics.contract import Pairs
from imagic_jax.metrics.networks import Networks
from imagic_jax.typing import Array

_CHUNK = 8  # pictures per call of a network: bounds memory

_clip_pixels = jax.jit(clip.clip_pixels, static_argnums=1)
_clip_image = jax.jit(clip.image_embeddings, static_argnums=0)
_clip_text = jax.jit(clip.text_embeddings, static_argnums=0)
_dino_features = jax.jit(dino.features, static_argnums=0)
_DINO_PIXELS = {
    "structure": jax.jit(dino.structure_pixels),
    "pie": jax.jit(functools.partial(dino.structure_pixels, pie_compat=True)),
    "crop": jax.jit(dino.crop_pixels),
}


class Seen:
    """Pairs, and what networks see in them, each worked out once."""

    def __init__(self, pairs: Pairs, networks: Networks):
        self.pairs, self.networks = pairs, networks
        self.output = jnp.asarray(pairs.output)
        self.reference = None if pairs.reference is None else jnp.asarray(pairs.reference)
        self.image = functools.cache(self._image)
        self.text = functools.cache(self._text)
        self.dino = functools.cache(self._dino)

    def both(self) -> tuple[Array, Array]:
        """Outputs and references."""
        assert self.reference is not None  # `Metric.needs` says that it must be given
        return self.output, self.reference

    def region(self, name: str) -> Array:
        """(b, h, w): "edited" is the mask, "background" its complement."""
        mask = jnp.asarray(self.pairs.mask)
        return mask if name == "edited" else 1.0 - mask

    def _image(self, model: str, which: str) -> Array:
        """Embeddings of "output", "reference", or the "edited" part of the output."""
        pair = self.networks.clip(model)
        pictures = pie.filled(self.output, self.region("edited")) if which == "edited" else None
        pictures = getattr(self, which) if pictures is None else pictures
        pixels = _clip_pixels(pictures, pair.how)
        return chunked(functools.partial(_clip_image, pair.module, pair.params), pixels)

    def _text(self, model: str, which: str, prefix: str = "") -> Array:
        """Embeddings of "text" or "source_text"."""
        pair = self.networks.clip(model)
        ids = pair.tokenize([prefix + text for text in getattr(self.pairs, which)])
        return chunked(functools.partial(_clip_text, pair.module, pair.params), ids)

    def _dino(self, name: str, which: str, how: str) -> dino.DINOOutput:
        network = self.networks.dino(name)
        pixels = _DINO_PIXELS[how](getattr(self, which))
        return chunked(functools.partial(_dino_features, *network), pixels)


@dataclass(frozen=True)
class Metric:
    """One metric of pairs.

    Attributes:
        name: what it is asked for by.
        options: its whole configuration.
        score: what is seen -> (b,) values; NaN where it is not defined.
        needs: the fields of `Pairs` that it reads, beside the outputs.
        higher: whether more is better.
        load: reads the networks; raises MissingWeights.
        undefined: when a value is NaN, in words.
    """

    name: str
    options: dict[str, str]
    score: Callable[[Seen], Array]
    needs: tuple[str, ...] = ("reference",)
    higher: bool = True
    load: Callable[[Networks], Any] = lambda networks: None
    undefined: str = "the region is empty"

    @property
    def identity(self) -> str:
        """The name with all options."""
        said = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}{{{said}}}"


def chunked(function: Callable[..., Any], *arrays: Array) -> Any:
    """The function on a few rows at a time, all of one number; results together."""
    count = arrays[0].shape[0]
    size = min(count, _CHUNK)
    outs = []
    for start in range(0, count, size):
        rows = [a[start : start + size] for a in arrays]
        short = size - rows[0].shape[0]
        rows = [jnp.pad(a, [(0, short)] + [(0, 0)] * (a.ndim - 1), mode="edge") for a in rows]
        outs.append(jax.tree.map(lambda a, keep=size - short: a[:keep], function(*rows)))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *outs)
