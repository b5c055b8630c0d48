"""Model folders in the layout of diffusers and transformers, opened and saved.

A folder is a `config.json` and one network's weights. Loading is strict: a tensor that is missing,
left over or of another shape than the config says is an error that names it, because a network
with a part left at random runs and is wrong.
"""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.models import UnsupportedConfig
from imagic_jax.typing import Array, DType, Params
from imagic_jax.weights.errors import WeightsError
from imagic_jax.weights.families import Family, family_of, parameter_shapes
from imagic_jax.weights.layout import Slot, flatten, slots, unflatten
from imagic_jax.weights.safetensors_io import (
    StoredTensor,
    open_tensors,
    replacing,
    write_tensors,
)

# Left over in published files: CLIP's position table, T5's second copy of its token embedding.
_HARMLESS = (".position_ids", "encoder.embed_tokens.weight")
_THREADS = 4  # that read; each may hold one tensor twice
_LISTED = 8  # so many names of each kind go into a message

Place = Callable[[tuple[str, ...], np.ndarray], Array]
"""(path in the tree, array) -> array on its device or devices."""


def load_part(
    folder: str | Path,
    dtype: DType | None = None,
    *,
    param_dtype: DType = jnp.float32,
    place: Place | None = None,
) -> tuple[nn.Module, Params]:
    """Opens a model folder: a UNet, a VAE, a CLIP text tower or a T5 encoder, by its `config.json`.

    Args:
      folder: holds `config.json` and safetensors weights (one file or shards, full or fp16).
      dtype: compute dtype of the module; None is float32.
      param_dtype: dtype of the parameters. Whatever is tuned wants float32: a learning rate of
        5e-7 vanishes in 16 bits.
      place: puts each array where it belongs as soon as it is read, called from several threads;
        by default on JAX's default device. Host memory never holds more than a few tensors twice.

    Returns:
      (module, params), for `module.apply({"params": params}, ...)`.

    Raises:
      WeightsError: something is missing, broken, left over or does not fit.
      UnsupportedConfig: the config asks for something that is not implemented.
    """
    folder = Path(folder)
    config, family, module = open_network(folder, jnp.float32 if dtype is None else dtype)
    table = _slots(family, module, config)
    tensors = _modern(str(folder), family, open_tensors(folder, family.stem))
    check_fit(
        str(folder),
        {key: slot.torch_shape for key, slot in table.items()},
        {key: shape for key, (_, shape) in tensors.items()},
    )
    work = [(slot, *tensors[key]) for key, slot in table.items()]
    return module, unflatten(read_all(work, param_dtype, place))


def open_network(folder: Path, dtype: DType) -> tuple[dict[str, Any], Family, nn.Module]:
    """What a model folder's `config.json` says: the config, its family and the module.

    Raises:
      WeightsError: there is no `config.json`, or it is of no supported network.
      UnsupportedConfig: the config asks for something that is not implemented.
    """
    config = read_config(folder)
    try:
        family = family_of(config)
        return config, family, family.build(config, dtype)
    except (WeightsError, UnsupportedConfig) as error:
        raise type(error)(f"{folder / 'config.json'}: {error}") from error


Work = tuple[Slot, StoredTensor, tuple[int, ...]]
"""A tensor to be read: where it goes, where it is, and the shape it has by today's names."""


def read_all(work: list[Work], dtype: DType, place: Place | None) -> dict[Any, Array]:
    """Reads, transposes and places tensors, a few at a time: {path: array}."""
    settings: Any = jax.config  # the two below are kept per thread
    x64, device = settings.jax_enable_x64, settings.jax_default_device

    def read(item: Work) -> Array:
        slot, tensor, shape = item
        view = slot.from_torch(tensor.read(dtype).reshape(shape))
        with jax.enable_x64(x64), jax.default_device(device):
            if place is not None:
                array = place(slot.path, np.array(view, order="C"))
            else:
                # JAX transposes while it copies, several times faster than NumPy. A copy it must
                # be: the view may be the file itself, which can change under us.
                array = jax.device_put(view, may_alias=False)
        tensor.release()
        return array

    in_file_order = sorted(work, key=lambda item: (id(item[1].file), item[1].start))
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as pool:
        arrays = list(pool.map(read, in_file_order))
    placed = {item[0].path: array for item, array in zip(in_file_order, arrays, strict=True)}
    return {slot.path: placed[slot.path] for slot, *_ in work}


def save_part(
    folder: str | Path, config: Mapping[str, Any], params: Params, dtype: DType | None = None
) -> None:
    """Saves a network as diffusers or transformers would, so that PyTorch users can open it.

    Each file appears complete or not at all; an existing one is replaced.

    Args:
      folder: is made if need be.
      config: the `config.json`, with its `_class_name` or `architectures`.
      params: the tree that the config's module takes.
      dtype: what to store (float16, bfloat16, float32); None keeps each array's own.

    Raises:
      WeightsError: the parameters do not fit the config, or overflow in `dtype`.
      UnsupportedConfig: the config asks for something that is not implemented.
    """
    folder = Path(folder)
    family = family_of(config)
    table = _slots(family, family.build(config, jnp.float32), config)
    leaves = flatten(params)
    check_fit(
        "the parameters to be saved",
        {"/".join(slot.path): slot.shape for slot in table.values()},
        {"/".join(path): tuple(leaf.shape) for path, leaf in leaves.items()},
    )
    tensors = {
        key: slot.to_torch(_cast(key, np.asarray(leaves[slot.path]), dtype))
        for key, slot in table.items()
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / f"{family.stem}.safetensors", tensors)
    with replacing(folder / "config.json") as temporary:
        temporary.write_text(json.dumps(dict(config), indent=2) + "\n")


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder.

    Raises:
      WeightsError: it is missing or no JSON object.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise WeightsError(f"{folder}: no config.json, so this is not a model folder")
    try:
        config = json.loads(path.read_text())
    except ValueError as error:
        raise WeightsError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(config, dict):
        raise WeightsError(f"{path}: expected a JSON object, found {type(config).__name__}")
    return config


def _modern(
    where: str, family: Family, stored: Mapping[str, StoredTensor]
) -> dict[str, tuple[StoredTensor, tuple[int, ...]]]:
    """The tensors of a file, perhaps an old one, under the names and shapes of today's files."""
    found: dict[str, tuple[StoredTensor, tuple[int, ...]]] = {}
    for key, tensor in stored.items():
        if key.endswith(_HARMLESS):
            continue
        name, shape = family.modern(key, tensor.shape)
        if name in found:
            raise WeightsError(f"{where}: {key} and {found[name][0].key} are the same tensor")
        found[name] = tensor, shape
    return found


def _slots(family: Family, module: nn.Module, config: Mapping[str, Any]) -> dict[str, Slot]:
    """The table of a network's tensors, from the shapes of its parameters."""
    shapes = parameter_shapes(module, family.inputs(module))
    return slots(shapes, family.conv_names(config))


def check_fit(
    where: str,
    expected: Mapping[str, tuple[int, ...]],
    found: Mapping[str, tuple[int, ...]],
    by: str = "the config",
) -> None:
    """Raises one WeightsError that names all that is missing, left over or of another shape.

    Args:
      where: the file or folder.
      by: what says which shapes are expected.
    """
    wrong = [
        f"{key} {found[key]} in place of {shape}"
        for key, shape in expected.items()
        if key in found and found[key] != shape
    ]
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "not in the network": sorted(found.keys() - expected.keys()),
        "of the wrong shape": wrong,
    }
    said = [f"{len(names)} {kind}: {_some(names)}" for kind, names in problems.items() if names]
    if said:
        raise WeightsError(f"{where}: the tensors do not fit {by}. " + "; ".join(said))


def _some(names: list[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def _cast(key: str, array: np.ndarray, dtype: DType | None) -> np.ndarray:
    """The array as `dtype`; a number too large for it is an error, not an infinity."""
    if dtype is None:
        return array
    with np.errstate(over="ignore"):
        out = array.astype(dtype)
    if not np.array_equal(np.isfinite(out), np.isfinite(array)):
        largest = float(np.abs(array.astype(np.float64)).max())
        raise WeightsError(f"{key} holds {largest:g}, too large for {np.dtype(dtype).name}")
    return out
