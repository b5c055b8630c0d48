"""Items of the Flatland benchmark: a source picture, a target text, and the ideal edit.

Every item is a pure function of (part, split, edit, index): nothing is stored, anyone draws the
same pictures again. Validation and test use different nuisance seeds and hold out different
combinations (see `flatland.splits`).
"""

import random
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import numpy as np

from imagic_jax.flatland import captions, nuisance, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.nuisance import Nuisance
from imagic_jax.flatland.reader import SIZE, render_list

Part = Literal["validation", "test"]
Split = Literal["iid", "tgt-ood", "src-ood", "phrase"]
SPLITS: tuple[Split, ...] = ("iid", "tgt-ood", "src-ood", "phrase")

#: The factor that each kind of edit changes, and the factors that its text names.
EDITS: dict[str, tuple[str, tuple[str, ...]]] = {
    "pose": ("state", ("cls", "state")),
    "colour": ("colour", ("cls", "colour")),
    "class": ("cls", ("cls", "state")),
    "place": ("place", ("cls", "place")),
}
_FIRST_SEED = {"validation": 1_000_000, "test": 2_000_000}
#: An edit must change the picture by at least this squared distance at 64 x 64 (evaluation: 4.4).
_LEAST_CHANGE = 0.5


class Item(NamedTuple):
    """One edit to be made."""

    name: str
    edit: str  # a key of `EDITS`
    split: Split
    source: Factors
    target: Factors
    text: str
    nuisance_seed: int

    def nuisance(self) -> Nuisance:
        """The source's nuisance, identity mark included."""
        return nuisance.sample(jax.random.key(self.nuisance_seed), "wide", marks=True)

    def pictures(self, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
        """(source, ideal edit), each (size, size, 3) in [0, 1]."""
        source, ideal = render_list([self.source, self.target], self.nuisance(), size)
        return source, ideal


def items(
    part: Part, count: int, split: Split = "iid", edits: Sequence[str] = tuple(EDITS)
) -> list[Item]:
    """`count` items, balanced over the kinds of edits, in a fixed order."""
    found: list[Item] = []
    index = 0
    while len(found) < count:
        edit = edits[len(found) % len(edits)]
        item = _draw(part, split, edit, index)
        index += 1
        if item is not None:
            found.append(item)
    return found


def _draw(part: Part, split: Split, edit: str, index: int) -> Item | None:
    """The item of one index, or None where the draw is not usable."""
    rng = random.Random(f"{part}/{split}/{edit}/{index}")
    factor, named = EDITS[edit]
    cls = rng.randrange(len(fx.CLASSES))
    source_part = part if split == "src-ood" else "train"
    target_part = part if split == "tgt-ood" else "train"
    source = splits.draw_factors(rng, cls, source_part)
    options = [v for v in range(len(fx.values(factor, cls))) if v != getattr(source, factor)]
    targets = [fx.with_factor(source, factor, v) for v in options]
    targets = [t for t in targets if splits.part_of(t) == target_part]
    if not targets:
        return None
    target = rng.choice(targets)
    if edit == "class":  # the text names the state, so it must exist for the new class
        state = rng.randrange(len(fx.values("state", int(target.cls))))
        target = target._replace(state=state)
        if splits.part_of(target) != target_part:
            return None
    usable = [n for n in named if len(fx.values(n, int(target.cls))) > 1]
    wording = part if split == "phrase" else "train"
    text = captions.caption(target, usable, rng, wording)
    item = Item(
        name=f"{part}-{split}-{edit}-{index:04d}",
        edit=edit,
        split=split,
        source=source,
        target=target,
        text=text,
        nuisance_seed=_FIRST_SEED[part] + index,
    )
    before, after = item.pictures()
    return item if float(np.square(before - after).sum()) >= _LEAST_CHANGE else None
