"""A pytree as JSON and named arrays, and back: the form in which a fit is kept.

The JSON spells the structure (dictionaries, lists, tuples, this package's named tuples, None, plain
numbers and words) with a name in place of every array, so that a fit is read back without code
that is stored beside it, and without knowing which method made it.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

_PACKAGE = __name__.split(".")[0]


def pack(tree: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """(structure as JSON values, {name: array}) of a tree.

    Raises:
        TypeError: a leaf is neither an array nor a plain value.
    """
    arrays: dict[str, np.ndarray] = {}

    def walk(node: Any) -> Any:
        if node is None or isinstance(node, bool | int | float | str):
            return node
        if isinstance(node, Mapping):
            return {"dict": {str(k): walk(v) for k, v in node.items()}}
        kind: Any = type(node)
        if isinstance(node, tuple) and hasattr(kind, "_fields"):
            fields = {n: walk(v) for n, v in zip(kind._fields, node, strict=True)}
            return {"type": f"{kind.__module__}:{kind.__name__}", "fields": fields}
        if isinstance(node, list | tuple):
            return {kind.__name__: [walk(v) for v in node]}
        if not isinstance(node, np.ndarray | np.generic | jax.Array):
            raise TypeError(f"a {kind.__name__} cannot be kept in a fit")
        name = str(len(arrays))
        arrays[name] = np.asarray(node)
        return {"array": name}

    return walk(tree), arrays


def unpack(structure: Any, arrays: Mapping[str, Any]) -> Any:
    """The tree that `pack` took apart.

    Raises:
        ValueError, KeyError, TypeError, AttributeError, ImportError: the structure is none of this
            package's, or an array is missing.
    """
    if not isinstance(structure, Mapping):
        return structure
    kind = next(iter(structure))
    inside = structure[kind]
    if kind == "array":
        return arrays[inside]
    if kind == "dict":
        return {k: unpack(v, arrays) for k, v in inside.items()}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](unpack(v, arrays) for v in inside)
    return _named(inside)(**{k: unpack(v, arrays) for k, v in structure["fields"].items()})


def _named(name: str) -> type:
    """A named tuple of this package, and nothing else."""
    module, _, kind = name.partition(":")
    if module.split(".")[0] != _PACKAGE:
        raise ValueError(f"{name} is no part of {_PACKAGE}")
    found = getattr(importlib.import_module(module), kind)
    if not (isinstance(found, type) and issubclass(found, tuple) and hasattr(found, "_fields")):
        raise ValueError(f"{name} is no named tuple")
    return found
