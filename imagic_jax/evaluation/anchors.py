"""Rows that every table shows beside the methods: what scores mean (evaluation: 4.6).

They are drawn by the renderer, no model is asked: doing nothing, fading the ideal edit in, the
ideal edit itself and slightly off, the right text on other pictures, and nothing at all.
"""

import random
from collections.abc import Callable

import jax
import numpy as np
from jaxtyping import Float

from imagic_jax.evaluation.items import Item
from imagic_jax.evaluation.scoring import GATES, Gates, Score, judge, score
from imagic_jax.flatland import captions, nuisance, reader, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import Nuisance

Picture = Float[np.ndarray, "64 64 3"]
_SOFT = 0.7  # pixels


def _copy(item: Item, source: Picture, ideal: Picture) -> Picture:
    return source


def _cross_fade(item: Item, source: Picture, ideal: Picture) -> Picture:
    return (source + ideal) / 2


def _oracle(item: Item, source: Picture, ideal: Picture) -> Picture:
    return ideal


def _shifted(item: Item, source: Picture, ideal: Picture) -> Picture:
    return np.roll(ideal, 1, axis=1)


def _blurred(item: Item, source: Picture, ideal: Picture) -> Picture:
    return reader.blur(ideal[None], _SOFT)[0]


def _other_nuisance(item: Item, source: Picture, ideal: Picture) -> Picture:
    return reader.render_list([item.target], _other(item))[0]


def _grey(item: Item, source: Picture, ideal: Picture) -> Picture:
    return np.full_like(source, 0.5)


#: Names in the order of the tables.
ANCHORS: dict[str, Callable[[Item, Picture, Picture], Picture]] = {
    "copy": _copy,
    "cross-fade": _cross_fade,
    "oracle": _oracle,
    "oracle, shifted 1 px": _shifted,
    "oracle, blurred": _blurred,
    "oracle, other nuisance": _other_nuisance,
    "grey": _grey,
}
TEXT_ONLY = "text alone, drawn by the renderer"
PREFIX = "anchor: "  # begins an anchor's method in rows and tables


def _other(item: Item) -> Nuisance:
    """A nuisance, and with it a mark, that has nothing to do with the item's."""
    key = jax.random.fold_in(jax.random.key(item.nuisance_seed), 1)
    return nuisance.sample(key, "wide", marks=True)


def scores(item: Item, gates: Gates = GATES) -> dict[str, Score]:
    """The scores of every anchor on one item."""
    source, ideals = item.pictures()
    drawn = [draw(item, source, ideals[0]) for draw in ANCHORS.values()]
    f, u = _drawn_from_text(item), _other(item)
    drawn += list(reader.render_list([f], u))
    names = [*ANCHORS, TEXT_ONLY]
    found = dict(zip(names, score(item, np.stack(drawn).astype(np.float32), gates), strict=True))
    # A perfect model that never saw the source: what it drew is read with its own nuisance, which
    # the renderer knows; all other scores are against the source.
    (reading,) = reader.read(drawn[-1][None], u, reader.candidates(f, f))
    told = found[TEXT_ONLY]
    own = judge(item, reading, told["identity"], float("nan"), gates)
    return {**found, TEXT_ONLY: {**told, **own._asdict(), "undecided": told["undecided"]}}


def _drawn_from_text(item: Item) -> Factors:
    """Factors that the text is true of, everything that it does not name drawn at random."""
    rng = random.Random(f"text-only/{item.name}")
    named = captions.parse(item.text)
    f = splits.draw_factors(rng, named.get("cls", int(item.source.cls)))
    return f._replace(**{n: v for n, v in named.items() if v < len(fx.values(n, int(f.cls)))})
