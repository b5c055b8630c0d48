"""Concepts as the command line spells them: "+glasses:scale=7,threshold=.95"."""

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp

from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.editors.contracts import Concept
from imagic_jax.errors import UserError
from imagic_jax.jobs.settings import number, whole

EXAMPLE = '--concept="+glasses:scale=7,threshold=.95"'
_DEFAULTS: Mapping[str, Any] = Concept._field_defaults
_NUMBERS = [n for n, v in _DEFAULTS.items() if n != "sign" and isinstance(v, int | float)]


class ConceptText(NamedTuple):
    """A concept before its text is encoded: `sign` is +1 to add, -1 to take away."""

    text: str
    sign: float
    values: dict[str, Any]  # scale, threshold, ... as far as they were given

    def encoded(self, cascade: Cascade, cond: Cond) -> Concept:
        """The concept with its text as the base reads it."""
        tokens = jnp.asarray(cascade.text.own_tokens(self.text))
        return Concept(cond, self.sign, tokens=tokens, **self.values)

    def __str__(self) -> str:
        given = ",".join(f"{k}={v:g}" for k, v in self.values.items())
        return f"{'+' if self.sign > 0 else '-'}{self.text}" + (f":{given}" if given else "")


def parse(texts: Sequence[str]) -> tuple[ConceptText, ...]:
    """Reads every `--concept`.

    Raises:
        UserError: one has no text, names no setting of a concept, or a value is out of range.
    """
    return tuple(_parse(t) for t in texts)


def _parse(given: str) -> ConceptText:
    head, colon, tail = given.rpartition(":")
    if not colon or "=" not in tail:  # a text may hold colons of its own
        head, tail = given, ""
    match = re.match(r"\s*([+-]?)\s*(.*?)\s*$", head, re.DOTALL)
    assert match is not None  # every text matches
    text = " ".join(match[2].split())
    if not text:
        raise UserError(f"--concept={given!r} names nothing: say what to add or remove, {EXAMPLE}")
    values = {}
    for entry in filter(None, (e.strip() for e in tail.split(","))):
        name, _, value = (p.strip() for p in entry.partition("="))
        values[name] = _value(given, name, value)
    return ConceptText(text, -1.0 if match[1] == "-" else 1.0, values)


def _value(given: str, name: str, value: str) -> int | float:
    """One setting of a concept, of the type and in the range that its default tells."""
    where = f"--concept={given!r}: {name}"
    if name not in _NUMBERS:
        close = difflib.get_close_matches(name, _NUMBERS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"{where} is no setting of a concept{hint} (known: {', '.join(_NUMBERS)})")
    if isinstance(_DEFAULTS[name], int):
        return whole(value, where, 0, 2**30)
    result = number(value, where)
    if name == "threshold" and not 0.0 <= result < 1.0:
        raise UserError(
            f"{where} must lie in 0..1 (below 1): the share of the picture that is left alone,"
            f" got {value!r}"
        )
    if name == "scale" and result < 0.0:
        raise UserError(f"{where} must not be negative; write -TEXT to take a concept away")
    return result
