"""The naming and layout rule between PyTorch state dicts and Flax parameter trees.

One rule: a dotted key is a path, a number belongs to the name before it
(`to_out.0.weight` <-> `to_out_0/kernel`), and the last part is renamed by what it holds: `weight`
is a `kernel` (linear or convolution), a `scale` (norm) or an `embedding`. Kernels are transposed:
linear (out, in) <-> (in, out), convolution OIHW <-> HWIO. Everything else stays as it is.

Two things the rule cannot see: names that end in a literal number (`linear_1`, `wi_0`), said here,
and which linear layers a file keeps as 1x1 convolutions, which its config says.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from imagic_jax.typing import Params

LITERAL_NAMES = frozenset({"linear_1", "linear_2", "wi_0", "wi_1"})
"""Module names whose trailing number is part of the name, not an index."""

_BRANCH = re.compile(r"branch\w+_\d$")  # Inception's: `branch3x3dbl_2`

_WEIGHT_LEAVES = frozenset({"kernel", "scale", "embedding"})


@dataclass(frozen=True)
class Slot:
    """One tensor in both layouts.

    Attributes:
      path: where it is in the Flax tree.
      shape: its shape there.
      as_conv: PyTorch keeps this linear layer as a 1x1 convolution, (out, in, 1, 1).
    """

    path: tuple[str, ...]
    shape: tuple[int, ...]
    as_conv: bool = False

    @property
    def key(self) -> str:
        """Its name in a PyTorch state dict."""
        *modules, leaf = self.path
        names = [_dotted(name) for name in modules]
        return ".".join([*names, "weight" if leaf in _WEIGHT_LEAVES else leaf])

    @property
    def torch_shape(self) -> tuple[int, ...]:
        """Its shape in a PyTorch state dict."""
        shape = tuple(self.shape[axis] for axis in self._to_torch_axes)
        return (*shape, 1, 1) if self.as_conv else shape

    def to_torch(self, array: np.ndarray) -> np.ndarray:
        """Flax layout -> PyTorch layout."""
        # The shape comes last: NumPy's contiguous copy of a lone number has an axis.
        return np.ascontiguousarray(array.transpose(self._to_torch_axes)).reshape(self.torch_shape)

    def from_torch(self, array: np.ndarray) -> np.ndarray:
        """PyTorch layout -> Flax layout, as a view; the exact inverse of `to_torch`."""
        if self.as_conv:
            array = array[:, :, 0, 0]
        return array.transpose(np.argsort(self._to_torch_axes))

    @property
    def _to_torch_axes(self) -> tuple[int, ...]:
        """Axes of the Flax array in PyTorch's order."""
        if self.path[-1] != "kernel":
            return tuple(range(len(self.shape)))
        return (1, 0) if len(self.shape) == 2 else (3, 2, 0, 1)


def _dotted(name: str) -> str:
    """`resnets_0` -> `resnets.0`, unless the number is part of the name."""
    if name in LITERAL_NAMES or _BRANCH.match(name):
        return name
    return re.sub(r"_(\d+)$", r".\1", name)


def slots(params: Params, conv_names: Collection[str] = ()) -> dict[str, Slot]:
    """The table from PyTorch keys to slots for a tree of arrays or of shapes.

    Args:
      params: the Flax tree; leaves need only a `shape`.
      conv_names: names of linear modules that PyTorch keeps as 1x1 convolutions.
    """
    table = {}
    for path, leaf in flatten(params).items():
        as_conv = len(path) > 1 and path[-2] in conv_names and path[-1] == "kernel"
        slot = Slot(path, tuple(leaf.shape), as_conv)
        table[slot.key] = slot
    return table


def flatten(params: Params, prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Nested mappings -> {path: leaf}."""
    flat: dict[tuple[str, ...], Any] = {}
    for name, value in params.items():
        path = (*prefix, name)
        flat |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return flat


def unflatten(flat: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    """{path: leaf} -> nested dicts."""
    tree: dict[str, Any] = {}
    for path, leaf in flat.items():
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return tree
