"""Methods by name, and their settings: `config.methods.NAME.FIELD`, checked.

Presets need not hold the section: what they leave out is the method's own default.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors.contracts import Method, no_fit
from imagic_jax.editors.methods import METHODS
from imagic_jax.errors import UserError
from imagic_jax.jobs.settings import choice, number, whole

IMAGIC = "imagic"


def names() -> list[str]:
    """Every method, Imagic first."""
    return [IMAGIC, *METHODS]


def checked_name(name: Any, where: str = "--method") -> str:
    """A method's name, "imagic" included.

    Raises:
        UserError: there is no such method; the nearest is named.
    """
    plain = str(name).strip().lower().replace("-", "_").replace("++", "_pp")
    if plain in names():
        return plain
    close = difflib.get_close_matches(plain, names(), 1, 0.5)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UserError(
        f"{where}: there is no method {name!r}{hint} (known: {', '.join(names())};"
        " `imagic methods` tells more)"
    )


def inverts(method: Method) -> bool:
    """Whether a method finds something out before it draws."""
    return method.fit is not no_fit


def with_defaults(config: Any) -> None:
    """Adds the settings that a preset leaves out to its `methods` section.

    Raises:
        UserError: the preset holds settings of no method, or of none of a method's.
    """
    given = config.get("methods", {})
    for name in given:
        _known(name, METHODS, "config.methods")
    complete = {}
    for name, method in METHODS.items():
        defaults = dataclasses.asdict(method.config())
        own = given.get(name, {})
        for field in own:
            _known(field, defaults, f"config.methods.{name}")
        complete[name] = {**defaults, **own}
    with config.unlocked():
        config.methods = complete


def _known(name: str, options: Mapping[str, Any], where: str) -> None:
    if name not in options:
        close = difflib.get_close_matches(name, options, 1)
        hint = f"; did you mean {where}.{close[0]}?" if close else ""
        raise UserError(f"there is no setting {where}.{name}{hint}")


def settings(method: Method, values: Mapping[str, Any]) -> Any:
    """A method's `config` from plain values, by the types of its fields.

    Raises:
        UserError: a value is of another type, or the method refuses it.
    """
    where = f"config.methods.{method.name}"
    kinds = typing.get_type_hints(method.config)
    fields = [f.name for f in dataclasses.fields(method.config)]
    for name in values:
        _known(name, dict.fromkeys(fields), where)
    checked = {n: _typed(kinds[n], v, f"{where}.{n}") for n, v in values.items()}
    try:
        return method.config(**checked)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from error


def _typed(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`: a number, a word of a few, several of these, or None."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        (kind, *_) = (k for k in options if k is not type(None))
        return _typed(kind, value, where)
    if typing.get_origin(kind) is typing.Literal:
        return choice(value, where, typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list | tuple):
            raise UserError(f"{where} must list its values, got {value!r}")
        inner = typing.get_args(kind)
        inner = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        if len(inner) != len(value):
            raise UserError(f"{where} must list {len(inner)} values, got {value!r}")
        return tuple(_typed(k, v, where) for k, v in zip(inner, value, strict=True))
    if kind is bool:
        if not isinstance(value, bool):
            raise UserError(f"{where} must be True or False, got {value!r}")
        return value
    if kind is int:
        return whole(value, where, -(2**31), 2**31 - 1)
    return number(value, where) if kind is float else str(value)


def strengths(
    method: Method, config: Any, given: Sequence[float] | None, sampling: Sampling
) -> tuple[int | float, ...]:
    """The amounts of the edit that are drawn: `given`, or what `config` says.

    Raises:
        UserError: one is out of the method's range.
    """
    own = getattr(config, method.knob)
    asked = [own] if given is None else given
    where = f"--strength ({method.name}'s {method.knob})"
    if isinstance(own, int):
        asked = [whole(v, where, -(2**31), 2**31 - 1) for v in asked]
    shares = all(0 <= s <= 1 for s in method.strengths)
    for strength in asked:
        if shares and not 0 <= strength <= 1:
            raise UserError(f"{where} is a share of the sampling steps, 0..1, got {strength:g}")
        try:
            method.cost(config, sampling, strength)
        except (UserError, ValueError) as error:
            raise UserError(f"{where}: {error}") from error
    return tuple(asked)


def more(method: Method, strength: float) -> float | None:
    """The next of a method's amounts with more of an edit, None at the end."""
    rising = method.strengths[-1] > method.strengths[0]
    side = 1.0 if rising else -1.0
    beyond = [s for s in method.strengths if side * s > side * strength + 1e-9]
    return min(beyond, key=lambda s: math.fabs(s - strength)) if beyond else None
