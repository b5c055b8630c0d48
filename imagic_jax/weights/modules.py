"""Networks from their `config.json` alone, without weights; and random weights for them."""

import json
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.typing import DType, Params
from imagic_jax.weights.errors import WeightsError
from imagic_jax.weights.families import parameter_shapes
from imagic_jax.weights.folder import open_network


def build_part(folder: str | Path, dtype: DType = jnp.float32) -> nn.Module:
    """The module of a model folder; raises as `folder.open_network` does."""
    return open_network(Path(folder), dtype)[2]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder.

    Raises:
      WeightsError: it is missing or broken.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise WeightsError(f"the model folder lacks {path}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as JSON ({error})") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value


def part_shapes(folder: str | Path, param_dtype: DType = jnp.float32) -> Params:
    """The parameters of a model folder as shapes: nothing is read or allocated."""
    _, family, module = open_network(Path(folder), jnp.float32)
    shapes = parameter_shapes(module, family.inputs(module))
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, param_dtype), shapes)


def random_part(folder: str | Path, param_dtype: DType = jnp.float32, seed: int = 0) -> Params:
    """Random parameters of the right shapes: for timing and memory, never for pictures.

    Kernels keep the variance of what flows through, norms are the identity, so that nothing
    overflows or underflows and times are those of a trained network.
    """
    rng = np.random.default_rng(seed)

    def fill(path: Any, a: jax.ShapeDtypeStruct) -> jax.Array:
        name = path[-1].key
        if name == "bias":
            return jnp.zeros(a.shape, a.dtype)
        if name in ("scale", "weight") and len(a.shape) == 1:
            return jnp.ones(a.shape, a.dtype)
        values = rng.standard_normal(a.shape, np.float32)
        values *= 0.02 if name == "embedding" else np.prod(a.shape[:-1]) ** -0.5
        return jnp.asarray(values, a.dtype)

    return jax.tree_util.tree_map_with_path(fill, part_shapes(folder, param_dtype))


def shape_bytes(shapes: Any) -> int:
    """Bytes of a tree of arrays or shapes."""
    return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(shapes))
