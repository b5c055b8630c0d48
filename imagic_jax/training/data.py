"""Training data: a table of captions made once, and pictures drawn inside the training step.

Where devices share a batch (`imagic train --mesh=sample:N`), each gets its part of it.
"""

import functools
import random
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.flatland import captions, factors, nuisance, splits
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.render import render_class
from imagic_jax.runtime.mesh import divide_draws
from imagic_jax.weights.tokenizer import Tokenizer

CLASSES = len(factors.CLASSES)
#: Number of values of every factor; states are numbered over all classes (see `_named`).
NAMED_SIZES = (
    len(factors.CLASSES),
    sum(len(s) for s in factors.STATES.values()),
    len(factors.COLOURS),
    len(factors.PLACES),
    len(factors.ACCESSORIES),
    len(factors.STYLES),
)


class CaptionTable(NamedTuple):
    """Rows of (factors, caption), grouped by class: every array starts with (class, row)."""

    factors: Factors  # of int32 (class, row)
    named: Int[Array, "k n f"]  # what the caption names per factor, -1 for nothing
    ids: Int[Array, "k n l"]
    mask: Int[Array, "k n l"]
    null_ids: Int[Array, " l"]  # the empty caption, for text dropout
    null_mask: Int[Array, " l"]


def caption_table(
    tokenizer: Tokenizer, rows: int, seed: int, *, name_all: bool = False
) -> CaptionTable:
    """Draws `rows` training captions per class; the same seed gives the same table.

    With `name_all` each names every factor that it can.
    """
    rng = random.Random(seed)
    assignments, named, texts = [], [], []
    for cls in range(CLASSES):
        for _ in range(rows):
            f = splits.draw_factors(rng, cls, "train")
            mentioned = (
                captions.nameable_factors(f) if name_all else captions.mentioned_factors(f, rng)
            )
            assignments.append(f)
            named.append(_named(f, mentioned))
            texts.append(captions.caption(f, mentioned, rng, "train"))
    ids, mask = tokenizer(texts)
    null_ids, null_mask = tokenizer([""])
    grouped = jax.tree.map(
        lambda a: np.reshape(a, (CLASSES, rows, *a.shape[1:])),
        (splits.as_arrays(assignments), np.array(named, np.int32), ids, mask),
    )
    return CaptionTable(*jax.tree.map(jnp.asarray, (*grouped, null_ids[0], null_mask[0])))


def _named(f: Factors, mentioned: tuple[str, ...]) -> list[int]:
    """The value of every mentioned factor, -1 for the others."""
    values = [int(v) for v in f]
    values[1] += _states_before(values[0])  # a sitting dog and a budding flower differ
    return [v if n in mentioned else -1 for n, v in zip(factors.FACTOR_NAMES, values, strict=True)]


def _states_before(cls: int) -> int:
    """How many states the classes before `cls` have."""
    return sum(len(factors.STATES[c]) for c in factors.CLASSES[:cls])


class Captions(NamedTuple):
    """One batch of captions, an equal number per class, class by class."""

    factors: Factors  # of int32 (class, row)
    named: Int[Array, "b f"]
    ids: Int[Array, "b l"]
    mask: Int[Array, "b l"]


def draw_captions(
    table: CaptionTable, key: PRNGKeyArray, batch: int, text_dropout: float
) -> Captions:
    """Draws `batch` captions (a multiple of the number of classes).

    Args:
        table: captions to draw from.
        key: PRNG key of this batch.
        batch: how many.
        text_dropout: share of the captions whose text is replaced by the empty one.
    """
    per_class, rest = divmod(batch, CLASSES)
    if rest:
        raise ValueError(f"batch {batch} must be a multiple of the {CLASSES} classes")
    row_key, drop_key = jax.random.split(key)
    rows = jax.random.randint(row_key, (CLASSES, per_class), 0, table.ids.shape[1])
    pick = functools.partial(jnp.take_along_axis, axis=1)
    ids, mask, named = (
        pick(a, rows[..., None]).reshape(batch, -1) for a in (table.ids, table.mask, table.named)
    )
    drop = jax.random.bernoulli(drop_key, text_dropout, (batch, 1))
    return Captions(
        factors=jax.tree.map(lambda a: pick(a, rows), table.factors),
        named=divide_draws(jnp.where(drop, -1, named)),
        ids=divide_draws(jnp.where(drop, table.null_ids, ids)),
        mask=divide_draws(jnp.where(drop, table.null_mask, mask)),
    )


class Batch(NamedTuple):
    """One batch of pictures with their captions."""

    image: Float[Array, "b h w 3"]  # in [-1, 1]
    ids: Int[Array, "b l"]
    mask: Int[Array, "b l"]
    named: Int[Array, "b f"]  # what the caption names per factor, -1 for nothing
    shown: Int[Array, "b f"]  # what the picture shows per factor, numbered alike


def draw_batch(
    table: CaptionTable,
    key: PRNGKeyArray,
    batch: int,
    size: int,
    *,
    mark_share: float,
    text_dropout: float,
    oversample: int,
    wide_share: float = 0.0,
) -> Batch:
    """Draws `batch` pictures (a multiple of the number of classes), an equal number per class.

    Each class is drawn in a group of its own: under vmap, a switch over classes would draw every
    class for every picture.

    Args:
        table: captions to draw from.
        key: PRNG key of this batch.
        batch: number of pictures.
        size: pixels per side.
        mark_share: share of the pictures that carry an identity mark.
        text_dropout: share of the captions replaced by the empty one.
        oversample: see `render_class`.
        wide_share: share of the pictures whose nuisance follows the law of test pictures.
    """
    caption_key, nuisance_key, mark_key = jax.random.split(key, 3)
    captions = draw_captions(table, caption_key, batch, text_dropout)
    u = _draw_nuisance(nuisance_key, batch, wide_share)
    u = u._replace(mark_on=jax.random.bernoulli(mark_key, mark_share, (batch,)).astype(jnp.float32))
    u = jax.tree.map(lambda a: a.reshape(CLASSES, -1, *a.shape[1:]), u)
    images = []
    for cls in range(CLASSES):
        draw = functools.partial(render_class, cls, size=size, oversample=oversample)
        images.append(jax.vmap(draw)(*jax.tree.map(lambda a, c=cls: a[c], (captions.factors, u))))
    return Batch(
        divide_draws(jnp.concatenate(images) * 2.0 - 1.0),
        captions.ids,
        captions.mask,
        captions.named,
        _shown(captions.factors),
    )


def _draw_nuisance(key: PRNGKeyArray, batch: int, wide_share: float) -> nuisance.Nuisance:
    """One draw per picture, marks on; `wide_share` of them by the wide law."""

    def law(name: nuisance.Law) -> nuisance.Nuisance:
        draw = functools.partial(nuisance.sample, law=name, marks=True)
        return jax.vmap(draw)(jax.random.split(key, batch))

    if not wide_share:
        return law("train")
    wide = jax.random.bernoulli(jax.random.fold_in(key, 0), wide_share, (batch,))

    def choose(a: Array, b: Array) -> Array:
        return jnp.where(wide.reshape(-1, *(1,) * (a.ndim - 1)), b, a)

    return jax.tree.map(choose, law("train"), law("wide"))


def _shown(f: Factors) -> Int[Array, "b f"]:
    """All factor values of a batch, states numbered over all classes as in `_named`."""
    before = jnp.array([_states_before(c) for c in range(CLASSES)])
    columns = f._replace(state=f.state + before[jnp.asarray(f.cls)])
    return jnp.stack([jnp.asarray(c).reshape(-1) for c in columns], axis=-1)
