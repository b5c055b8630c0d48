"""Which factor combinations the models may see, and which are kept for validation and test.

Held out are cells of class x colour and of class x state x place (as CLEVR-CoGenT does): every
value is seen in training, but never in these combinations. Validation and test hold out
different cells, so that nothing is tuned on what is finally measured.
"""

import functools
import random
from typing import Literal

import jax.numpy as jnp
import numpy as np

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors

Part = Literal["train", "validation", "test"]

_COLOUR_CELLS = {
    "validation": {
        ("bird", "green"),
        ("dog", "pink"),
        ("cake", "orange"),
        ("car", "purple"),
        ("ball", "white"),
        ("flower", "yellow"),
    },
    "test": {
        ("bird", "orange"),
        ("dog", "green"),
        ("cake", "blue"),
        ("car", "pink"),
        ("ball", "purple"),
        ("flower", "blue"),
    },
}
_PLACE_CELLS = {
    "validation": {
        ("bird", "folded", "night"),
        ("dog", "standing", "beach"),
        ("cake", "plain", "meadow"),
        ("car", "closed", "snow"),
        ("flower", "bud", "beach"),
    },
    "test": {
        ("bird", "spread", "snow"),
        ("dog", "jumping", "meadow"),
        ("cake", "candles", "beach"),
        ("car", "convertible", "night"),
        ("flower", "bloom", "snow"),
    },
}

#: Shares of the two rarer values in training.
HAT_SHARE, SKETCH_SHARE = 0.4, 0.2


def part_of(f: Factors) -> Part:
    """ "train" if the models may see this combination, else the part that holds it out."""
    names = fx.describe(f)
    for part in ("test", "validation"):
        if (names["cls"], names["colour"]) in _COLOUR_CELLS[part]:
            return part
        if (names["cls"], names["state"], names["place"]) in _PLACE_CELLS[part]:
            return part
    return "train"


@functools.cache
def combinations(part: Part) -> tuple[Factors, ...]:
    """All valid factor assignments of a part, in a fixed order."""
    return tuple(f for f in fx.all_factors() if part_of(f) == part)


@functools.cache
def _cells(part: Part, cls: int) -> tuple[tuple[int, int, int], ...]:
    """Distinct (state, colour, place) of a class in a part."""
    own = [f for f in combinations(part) if f.cls == cls]
    return tuple(sorted({(int(f.state), int(f.colour), int(f.place)) for f in own}))


def draw_factors(rng: random.Random, cls: int, part: Part = "train") -> Factors:
    """One random assignment of class `cls`: state evenly, then its colours and places evenly."""
    cells = _cells(part, cls)
    states = sorted({c[0] for c in cells})
    state = rng.choice(states)
    _, colour, place = rng.choice([c for c in cells if c[0] == state])
    can_wear = len(fx.values("accessory", cls)) > 1
    return Factors(
        cls=cls,
        state=state,
        colour=colour,
        place=place,
        accessory=int(can_wear and rng.random() < HAT_SHARE),
        style=int(rng.random() < SKETCH_SHARE),
    )


def as_arrays(assignments: list[Factors]) -> Factors:
    """A list of assignments as one `Factors` of int32 arrays."""
    columns = np.array([[int(v) for v in f] for f in assignments], np.int32).reshape(-1, 6)
    return Factors(*(jnp.asarray(c) for c in columns.T))
