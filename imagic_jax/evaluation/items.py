"""Benchmark items: a source picture, a target text, and the ideal edits (evaluation: 4.3-4.4).

Items are drawn from the world by a pure function of (part, split, edit, index): nothing is stored,
anyone draws the same pictures again. Validation and test use different nuisance seeds and hold out
different combinations (see `flatland.splits`).

Position, size and facing have no words in this world, so that the split `hard` asks for two changes
at once instead; there is no second object.
"""

import functools
import hashlib
import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from imagic_jax.flatland import captions, nuisance, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.counterfactuals import comparable, ideals
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import Nuisance
from imagic_jax.flatland.reader import SIZE, render_list

Part = Literal["validation", "test"]
Split = Literal["iid", "tgt-ood", "src-ood", "phrase", "null", "hard"]
SPLITS: tuple[Split, ...] = ("iid", "tgt-ood", "src-ood", "phrase", "null", "hard")

#: The factor that each kind of edit changes, and its weight among the items.
EDITS: dict[str, tuple[str, int]] = {
    "pose": ("state", 120),
    "colour": ("colour", 50),
    "class": ("cls", 60),
    "hat": ("accessory", 60),
    "place": ("place", 50),
    "style": ("style", 30),
}
COMPOUND = "compound"  # the one kind of edit of the split `hard`
#: The kinds that lead into or out of a held-out combination: none is about hats or styles.
_HELD_OUT_EDITS = ("pose", "colour", "class", "place")
#: An edit must change a picture of 64 x 64 by at least this squared distance, and so must every
#: factor that is read (evaluation: 4.4).
LEAST_CHANGE = 0.5
_FILTER_SIZE = 32  # what every factor changes is looked at in small
_FIRST_SEED = {"validation": 500_000_000, "test": 1_000_000_000}
_PER_SPLIT, _PER_EDIT = 60_000_000, 8_000_000


class Item(NamedTuple):
    """One edit to be made."""

    name: str
    edit: str  # a key of `EDITS`, or `COMPOUND`
    split: Split
    source: Factors
    ideals: tuple[Factors, ...]  # F*: several where the text leaves a factor open
    text: str
    source_text: str  # of the source, naming what `text` names; for methods that need one
    nuisance_seed: int
    #: A picture to edit in place of the source's own, (64, 64, 3) in [0, 1]: for editing back.
    given: np.ndarray | None = None

    @property
    def target(self) -> Factors:
        """The first ideal edit."""
        return self.ideals[0]

    def nuisance(self) -> Nuisance:
        """The source's nuisance, identity mark included."""
        return nuisance_of(self.nuisance_seed)

    def pictures(self, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
        """(source (size, size, 3), ideal edits (k, size, size, 3)), all in [0, 1]."""
        drawn = _drawn(self.source, self.ideals, self.nuisance_seed, size)
        return drawn[0], drawn[1:]

    def picture(self, size: int) -> np.ndarray:
        """What a method is given: (size, size, 3) in [0, 1]."""
        if self.given is None:
            return self.pictures(size)[0]
        if size % SIZE == 0:
            k = size // SIZE
            return self.given.repeat(k, axis=0).repeat(k, axis=1)
        k = SIZE // size
        return self.given.reshape(size, k, size, k, 3).mean(axis=(1, 3))

    def seeds(self, count: int) -> list[int]:
        """The sampling seeds of an item, the same for every method."""
        key = jax.random.fold_in(jax.random.key(0), self.nuisance_seed)
        return [int(s) for s in jax.random.bits(key, (count,))]


@functools.lru_cache(maxsize=64)
def nuisance_of(seed: int) -> Nuisance:
    """A source's nuisance, identity mark included."""
    return nuisance.sample(jax.random.key(seed), "wide", marks=True)


@functools.lru_cache(maxsize=64)
def _drawn(source: Factors, ideals: tuple[Factors, ...], seed: int, size: int) -> np.ndarray:
    drawn = render_list([source, *ideals], nuisance_of(seed), size)
    drawn.flags.writeable = False
    return drawn


def kept_factors(item: Item) -> tuple[str, ...]:
    """The factors that an edit must leave alone."""
    f, g = item.source, item.target
    return tuple(n for n in comparable(f, g) if int(getattr(f, n)) == int(getattr(g, n)))


def edits_of(split: Split) -> tuple[str, ...]:
    """The kinds of edits of a split."""
    if split == "hard":
        return (COMPOUND,)
    return _HELD_OUT_EDITS if split in ("tgt-ood", "src-ood") else tuple(EDITS)


def hashed(items: Sequence[Item]) -> list[Item]:
    """Items in the order of their names' hashes: nobody's choice."""
    return sorted(items, key=lambda i: hashlib.sha256(i.name.encode()).hexdigest())


def balanced(count: int, edits: Sequence[str] = tuple(EDITS)) -> dict[str, int]:
    """How many items of each kind of edit make `count`: by weight, largest remainders first."""
    weights = {e: EDITS[e][1] if e in EDITS else 1 for e in edits}
    exact = {e: count * w / sum(weights.values()) for e, w in weights.items()}
    found = {e: int(x) for e, x in exact.items()}
    rest = sorted(edits, key=lambda e: found[e] - exact[e])
    for edit in rest[: count - sum(found.values())]:
        found[edit] += 1
    return found


def items(
    part: Part, count: int, split: Split = "iid", edits: Sequence[str] | None = None
) -> list[Item]:
    """`count` items in a fixed order, balanced over the kinds of edits.

    Args:
        part, split: what they are for.
        count: of all kinds together.
        edits: the kinds, keys of `EDITS` that the split has, each with the same number of items
            (the first ones with one more); None for all kinds of the split, by weight.
    """
    if edits is None:
        wanted = balanced(count, edits_of(split))
    else:
        each, more = divmod(count, len(edits))
        wanted = {e: each + (i < more) for i, e in enumerate(edits)}
    return [i for edit, n in wanted.items() for i in _first(part, split, edit, n)]


def _first(part: Part, split: Split, edit: str, count: int) -> list[Item]:
    """The first `count` usable items of one kind."""
    found: list[Item] = []
    index = 0
    while len(found) < count:
        item = draw(part, split, edit, index)
        index += 1
        if item is not None and identifiable(item):
            found.append(item)
    return found


def draw(part: Part, split: Split, edit: str, index: int) -> Item | None:
    """The item of one index, or None where the draw does not belong to the split."""
    rng = random.Random(f"{part}/{split}/{edit}/{index}")
    source = splits.draw_factors(
        rng, rng.randrange(len(fx.CLASSES)), part if split == "src-ood" else "train"
    )
    changes = _two(rng) if edit == COMPOUND else [EDITS[edit][0]]
    target: Factors | None = source
    for factor in [] if split == "null" else changes:
        target = target and _changed(rng, target, factor)
    if target is None:
        return None
    named = {"cls", *changes}
    if "cls" in changes and rng.random() < 0.5:
        named.add("state")
    wording = part if split == "phrase" else "train"

    def written(f: Factors) -> str:
        usable = [n for n in fx.FACTOR_NAMES if n in named and len(fx.values(n, int(f.cls))) > 1]
        return captions.caption(f, usable, rng, wording)

    text = written(target)
    found = ideals(source, captions.parse(text))
    wanted = part if split == "tgt-ood" else "train"
    if any(splits.part_of(g) != wanted for g in found):
        return None
    number = 0 if edit == COMPOUND else list(EDITS).index(edit)
    first = _FIRST_SEED[part] + SPLITS.index(split) * _PER_SPLIT + number * _PER_EDIT
    return Item(
        name=f"{part}-{split}-{edit}-{index:04d}",
        edit=edit,
        split=split,
        source=source,
        ideals=found,
        text=text,
        source_text=written(source),
        nuisance_seed=first + index,
    )


def _two(rng: random.Random) -> list[str]:
    """Two factors that can change together; a new class brings its own states."""
    while True:
        two = rng.sample([f for f, _ in EDITS.values()], 2)
        if set(two) != {"cls", "state"}:
            return sorted(two, key=fx.FACTOR_NAMES.index)


def _changed(rng: random.Random, f: Factors, factor: str) -> Factors | None:
    """`f` with another value of one factor; None where there is no other."""
    options = [v for v in range(len(fx.values(factor, int(f.cls)))) if v != int(getattr(f, factor))]
    if not options:
        return None
    g = fx.with_factor(f, factor, rng.choice(options))
    if factor != "cls":
        return g
    return g._replace(state=rng.randrange(len(fx.values("state", int(g.cls)))))


def identifiable(item: Item) -> bool:
    """Whether the edit and every factor that is read can be seen (evaluation: 4.4).

    The filter is about single pictures: a colour that hardly shows in a pencil sketch, a hat of the
    colour of the bird. Without it even the ideal edit would be misread.
    """
    least = LEAST_CHANGE * (_FILTER_SIZE / SIZE) ** 2
    u = item.nuisance()
    for f in (item.source, *item.ideals):
        drawn = render_list([f, *fx.neighbours(f)], u, _FILTER_SIZE)
        if np.square(drawn[1:] - drawn[0]).sum(axis=(1, 2, 3)).min() < least:
            return False
    if item.split == "null":
        return True
    before, after = item.pictures()
    return bool(np.square(after - before).sum(axis=(1, 2, 3)).min() >= LEAST_CHANGE)
