"""Ideal edits: what a text asks of a picture whose factors are known (evaluation: 4.4)."""

import functools

import numpy as np
from jaxtyping import Float

from imagic_jax.flatland import captions
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors

#: A pixel belongs to the edit where source and ideal differ by more, and two pixels around.
_CHANGED, _MARGIN = 4 / 255, 2


def ideals(f: Factors, named: dict[str, int]) -> tuple[Factors, ...]:
    """F*(f, c): the assignments that the text is true of and that change the least of `f`.

    A new class has other states, so its state counts as no change: where the text names none, every
    state is ideal. A hat that the new class cannot wear is dropped.
    """
    cls = named.get("cls", int(f.cls))
    options = [g for g in _of_class(cls) if captions.satisfies(g, named)]
    least = min(_distance(f, g) for g in options)
    return tuple(g for g in options if _distance(f, g) == least)


@functools.cache
def _of_class(cls: int) -> tuple[Factors, ...]:
    return tuple(g for g in fx.all_factors() if g.cls == cls)


def _distance(f: Factors, g: Factors) -> int:
    return sum(int(getattr(f, n)) != int(getattr(g, n)) for n in comparable(f, g))


def comparable(f: Factors, g: Factors) -> tuple[str, ...]:
    """The factors whose values mean the same in both: not the state of another class, and not the
    hat of one that wears none."""
    names = [n for n in fx.FACTOR_NAMES if n != "state" or int(f.cls) == int(g.cls)]
    if len(fx.values("accessory", int(f.cls))) != len(fx.values("accessory", int(g.cls))):
        names.remove("accessory")
    return tuple(names)


def background_mask(
    source: Float[np.ndarray, "h w 3"], ideal: Float[np.ndarray, "h w 3"]
) -> Float[np.ndarray, "h w"]:
    """1 where the edit must leave the picture alone: the complement of the dilated change."""
    changed = np.pad(np.abs(source - ideal).max(-1) > _CHANGED, _MARGIN)
    grown = changed.copy()
    for dy in range(-_MARGIN, _MARGIN + 1):
        for dx in range(-_MARGIN, _MARGIN + 1):
            grown |= np.roll(changed, (dy, dx), (0, 1))
    return 1.0 - grown[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN].astype(np.float32)
