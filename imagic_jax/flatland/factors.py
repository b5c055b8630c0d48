"""The factors that a Flatland caption may name, and the combinations that exist.

A factor assignment is a `Factors` tuple of small integers: indices into the name tables below.
It is a pytree, so the renderer can be traced, vmapped and differentiated around it.
"""

from collections.abc import Iterator
from typing import NamedTuple

import jax

CLASSES = ("bird", "dog", "cake", "car", "ball", "flower")
STATES = {
    "bird": ("folded", "spread"),
    "dog": ("standing", "sitting", "jumping"),
    "cake": ("plain", "candles"),
    "car": ("closed", "convertible"),
    "ball": ("still",),
    "flower": ("bud", "bloom"),
}
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
PLACES = ("meadow", "beach", "snow", "night")
ACCESSORIES = ("none", "hat")
STYLES = ("photo", "sketch")
#: Only animals wear hats.
HAT_CLASSES = ("bird", "dog")

FACTOR_NAMES = ("cls", "state", "colour", "place", "accessory", "style")


class Factors(NamedTuple):
    """One factor assignment; every field is an index (a Python int or an int32 array).

    `state` indexes `STATES[CLASSES[cls]]`, so its meaning depends on the class.
    """

    cls: int | jax.Array
    state: int | jax.Array
    colour: int | jax.Array
    place: int | jax.Array
    accessory: int | jax.Array
    style: int | jax.Array


def values(name: str, cls: int) -> tuple[str, ...]:
    """The names that factor `name` can take for class index `cls`."""
    if name == "cls":
        return CLASSES
    if name == "state":
        return STATES[CLASSES[cls]]
    if name == "accessory":
        return ACCESSORIES if CLASSES[cls] in HAT_CLASSES else ACCESSORIES[:1]
    return {"colour": COLOURS, "place": PLACES, "style": STYLES}[name]


def is_valid(f: Factors) -> bool:
    """Whether the assignment names something that exists (a ball has no second state, ...)."""
    if not 0 <= f.cls < len(CLASSES):
        return False
    return all(0 <= getattr(f, n) < len(values(n, int(f.cls))) for n in FACTOR_NAMES)


def all_factors() -> Iterator[Factors]:
    """Every valid assignment, in a fixed order."""
    for c, name in enumerate(CLASSES):
        for state in range(len(STATES[name])):
            for colour in range(len(COLOURS)):
                for place in range(len(PLACES)):
                    for accessory in range(len(values("accessory", c))):
                        for style in range(len(STYLES)):
                            yield Factors(c, state, colour, place, accessory, style)


def make(**names: str) -> Factors:
    """Builds an assignment from names, e.g. `make(cls="dog", state="sitting", colour="red")`.

    Unnamed factors take their first value. Raises `ValueError` on an unknown or impossible name.
    """
    cls_name = names.get("cls", CLASSES[0])
    if cls_name not in CLASSES:
        raise ValueError(f"unknown class {cls_name!r}; one of {', '.join(CLASSES)}")
    cls = CLASSES.index(cls_name)
    fields = {"cls": cls}
    for name in FACTOR_NAMES[1:]:
        options = values(name, cls)
        value = names.get(name, options[0])
        if value not in options:
            raise ValueError(f"a {cls_name} has no {name} {value!r}; one of {', '.join(options)}")
        fields[name] = options.index(value)
    return Factors(**fields)


def name_of(f: Factors, factor: str) -> str:
    """The name of one factor's value, e.g. `name_of(f, "colour") -> "red"`."""
    return values(factor, int(f.cls))[int(getattr(f, factor))]


def describe(f: Factors) -> dict[str, str]:
    """All factor values by name, for manifests and reports."""
    return {n: name_of(f, n) for n in FACTOR_NAMES}


def with_factor(f: Factors, factor: str, value: int) -> Factors:
    """`f` with one factor changed.

    A class change falls back to the new class's first state and drops a hat that the new class
    cannot wear, because "sitting" means nothing to a car.
    """
    g = f._replace(**{factor: value})
    if factor == "cls" and int(value) != int(f.cls):
        g = g._replace(state=0)
        if CLASSES[int(value)] not in HAT_CLASSES:
            g = g._replace(accessory=0)
    return g


def neighbours(f: Factors) -> list[Factors]:
    """All assignments that differ from `f` by one named factor (see `with_factor`)."""
    found = []
    for name in FACTOR_NAMES:
        for value in range(len(values(name, int(f.cls)))):
            if value != int(getattr(f, name)):
                found.append(with_factor(f, name, value))
    return found


def changed(f: Factors, g: Factors) -> tuple[str, ...]:
    """Names of the factors in which `f` and `g` differ."""
    return tuple(n for n in FACTOR_NAMES if int(getattr(f, n)) != int(getattr(g, n)))
