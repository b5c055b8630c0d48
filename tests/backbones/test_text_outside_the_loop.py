"""What does not change from one sampling step to the next is computed once: XLA moves the text's
keys and values out of the loop."""

import re

import jax.numpy as jnp
import pytest

from imagic_jax.backbones import registry
from imagic_jax.backbones.contracts import repeat
from imagic_jax.backbones.generate import draw, padded_grid, seed_keys

_COMPUTATION = re.compile(r"^(?:ENTRY )?%?([\w.\-]+) \(.*\{$")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")


def computations(hlo: str) -> dict[str, list[str]]:
    """The lines of every computation of a compiled program, by name."""
    found: dict[str, list[str]] = {}
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            lines = found.setdefault(match[1], [])
        elif found:
            lines.append(line)
    return found


def reached(table: dict[str, list[str]], name: str) -> set[str]:
    """A computation and all that it calls."""
    names, todo = set(), [name]
    while todo:
        if (n := todo.pop()) not in names:
            names.add(n)
            todo += [c for line in table[n] for c in _CALLED.findall(line) if c in table]
    return names


@pytest.fixture(scope="module")
def lines(tiny_model):
    """(lines within loops, all lines) of the program that draws with guidance."""
    loaded = registry.load_cascade(tiny_model)
    stage, params = loaded.cascade.stages[0], loaded.params["stages"][0]
    texts = [loaded.cascade.text.encode(loaded.params["text"], [t])[0] for t in ("a dog", "")]
    lowered = draw.lower(
        stage,
        params,
        *(repeat(t, 2) for t in texts),
        None,
        seed_keys([0, 1], 0),
        jnp.float32(4.0),
        *padded_grid(stage.schedule, 8),
        guided=True,
        sampler="ddim",
    )
    hlo = lowered.compile().as_text()
    table = computations(hlo)
    bodies = re.findall(r"body=%?([\w.\-]+)", hlo)
    inside = set().union(*(reached(table, b) for b in bodies))
    return [line for n in inside for line in table[n]], hlo.splitlines()


@pytest.mark.parametrize("name", ["add_k_proj", "add_v_proj"])
def test_keys_and_values_of_the_text_are_computed_before_the_loop(lines, name):
    products = [[x for x in some if f"/{name}/dot_general" in x] for some in lines]
    assert products[1], "the program has none"
    assert not products[0], products[0][:1]


def test_keys_of_the_picture_are_computed_in_the_loop(lines):
    assert [x for x in lines[0] if "/to_k/dot_general" in x]
