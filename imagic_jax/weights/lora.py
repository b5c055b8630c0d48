"""LoRA as diffusers keeps it: one safetensors file under PEFT's names.

`unet.down_blocks.0. ... .to_q.lora_A.weight` is (rank, in), `.lora_B.weight` (out, rank); without
alphas in the file the scale is 1, W + B A. (`pipe.load_lora_weights(folder)` opens it.)
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imagic_jax.typing import Array, DType
from imagic_jax.weights.errors import WeightsError
from imagic_jax.weights.families import family_of
from imagic_jax.weights.layout import Slot
from imagic_jax.weights.safetensors_io import write_tensors

LORA_FILE = "pytorch_lora_weights.safetensors"
_LEAVES = {"lora_a": "lora_A", "lora_b": "lora_B"}


def save_lora(
    folder: str | Path,
    config: Mapping[str, Any],
    trained: Mapping[str, Array],
    dtype: DType | None = None,
) -> None:
    """Writes `LORA_FILE` into a folder; it appears complete or not at all.

    Args:
      folder: is made if need be.
      config: the UNet's `config.json`.
      trained: see `lora_tensors`.
      dtype: what to store; None keeps each array's own.

    Raises:
      WeightsError: a number overflows in `dtype`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = lora_tensors(config, trained)
    if dtype is not None:
        with np.errstate(over="ignore"):
            tensors = {key: array.astype(dtype) for key, array in tensors.items()}
    for key, array in tensors.items():
        if not np.isfinite(array).all():
            raise WeightsError(f"{key} holds numbers too large for {array.dtype.name}")
    write_tensors(folder / LORA_FILE, tensors)


def lora_tensors(config: Mapping[str, Any], trained: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """The file's tensors by key.

    All get the largest rank, the others filled up with zeros, which change no number: readers
    disagree about the scale where ranks differ.

    Args:
      config: the UNet's `config.json`; it says which linear layers PyTorch keeps as convolutions.
      trained: {"unet/.../to_q/lora_a": (in, rank), "unet/.../to_q/lora_b": (rank, out)}.
    """
    conv_names = family_of(config).conv_names(config)
    rank = max(a.shape[1] for path, a in trained.items() if path.endswith("/lora_a"))
    tensors = {}
    for path, array in trained.items():
        *modules, leaf = path.split("/")
        module = Slot((*modules, "kernel"), ()).key.removesuffix(".weight")
        tensor = np.ascontiguousarray(_filled(np.asarray(array), leaf, rank).T)
        if modules[-1] in conv_names:
            tensor = tensor[:, :, None, None]
        tensors[f"{module}.{_LEAVES[leaf]}.weight"] = tensor
    return tensors


def _filled(array: np.ndarray, leaf: str, rank: int) -> np.ndarray:
    """A with more columns, B with more rows: zeros up to `rank`."""
    axis = 1 if leaf == "lora_a" else 0
    pad = [(0, 0), (0, 0)]
    pad[axis] = (0, rank - array.shape[axis])
    return np.pad(array, pad)
