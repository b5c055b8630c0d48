"""Strict reading and atomic writing of safetensors files, one tensor at a time.

Published folders keep a network in one file or in shards with an index, in full precision or as an
`.fp16` variant, and the file names differ between diffusers and transformers only in their stem.
Pickle files (`.bin`, `.ckpt`, `.pt`) can run code when opened: they are refused with a hint.
"""

import contextlib
import json
import math
import mmap
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from imagic_jax.weights.errors import WeightsError

PICKLES = (".bin", ".ckpt", ".pt", ".pth")
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": ml_dtypes.bfloat16}
_WORDS = {"I": "int", "U": "uint", "F": "float", "BOOL": "bool"}  # for messages: I8 is int8


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies and its shape; nothing is read before `read`.

    Attributes:
      kind: its dtype under safetensors' name.
      file: the mapped file.
      start: where its first byte is there.
    """

    key: str
    shape: tuple[int, ...]
    kind: str
    file: mmap.mmap
    start: int

    def read(self, dtype: Any) -> np.ndarray:
        """The tensor as `dtype`: a read-only view of the file if it holds that, else a copy.

        Raises:
          WeightsError: it does not hold floating-point numbers.
        """
        if self.kind not in _FLOATS:
            letters = self.kind.rstrip("0123456789")
            name = _WORDS.get(letters, letters) + self.kind[len(letters) :]
            raise WeightsError(f"{self.key} holds {name}, not floating-point numbers")
        stored, count = np.dtype(_FLOATS[self.kind]), math.prod(self.shape)
        self._advise("MADV_WILLNEED", count * stored.itemsize)
        view = np.frombuffer(self.file, stored, count, self.start).reshape(self.shape)
        return view.astype(dtype, copy=not view.flags.aligned)

    def release(self) -> None:
        """Says that what `read` gave is done with, so that it no longer counts as our memory."""
        if self.kind in _FLOATS:
            size = np.dtype(_FLOATS[self.kind]).itemsize
            self._advise("MADV_DONTNEED", math.prod(self.shape) * size)

    def _advise(self, name: str, size: int) -> None:
        """Advises the system on this tensor's pages, where it takes advice."""
        advice, offset = getattr(mmap, name, None), self.start % mmap.PAGESIZE
        if advice is not None and size:
            self.file.madvise(advice, self.start - offset, size + offset)


def open_tensors(folder: Path, stem: str) -> dict[str, StoredTensor]:
    """Opens the weights of a folder: {key: tensor}.

    Args:
      folder: a model folder.
      stem: the file name without ending (`diffusion_pytorch_model`, `model`).

    Raises:
      WeightsError: no safetensors weights are there, or a file is missing or broken.
    """
    tensors: dict[str, StoredTensor] = {}
    for path, keys in _files(folder, stem).items():
        stored = open_file(path)
        for key in sorted(stored if keys is None else keys):
            if key not in stored:
                raise WeightsError(f"{path}: lacks {key}, which the index says is there")
            tensors[key] = stored[key]
    return tensors


def open_file(path: Path) -> dict[str, StoredTensor]:
    """Opens a safetensors file: {key: tensor}; its size is checked against its header.

    Raises:
      WeightsError: the file is missing or broken.
    """
    try:
        with safe_open(path, framework="numpy"):
            pass
    except FileNotFoundError:
        raise WeightsError(f"{path}: the file is missing") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path}: not a whole safetensors file ({error}); was the download cut off? "
            "Fetch it again"
        ) from error
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    # What `safe_open` found sound: the header's length, the header, the tensors.
    begin = 8 + int.from_bytes(mapped[:8], "little")
    header = json.loads(mapped[8:begin])
    header.pop("__metadata__", None)
    return {
        key: StoredTensor(
            key, tuple(row["shape"]), row["dtype"], mapped, begin + row["data_offsets"][0]
        )
        for key, row in header.items()
    }


def _files(folder: Path, stem: str) -> Mapping[Path, list[str] | None]:
    """{file: the keys to take from it, None for all}; full precision goes before fp16."""
    for whole, indices in (
        (f"{stem}.safetensors", [f"{stem}.safetensors.index.json"]),
        (
            f"{stem}.fp16.safetensors",
            [f"{stem}.safetensors.index.fp16.json", f"{stem}.fp16.safetensors.index.json"],
        ),
    ):
        if (folder / whole).is_file():
            return {folder / whole: None}
        for index in indices:
            if (folder / index).is_file():
                return _shards(folder, index)
    raise WeightsError(_nothing_found(folder, stem))


def _shards(folder: Path, index: str) -> Mapping[Path, list[str] | None]:
    """The shards that an index file lists, each with its keys."""
    try:
        weight_map = json.loads((folder / index).read_text())["weight_map"]
        items = list(weight_map.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder / index}: not a safetensors index (a JSON object with a weight_map): {error}"
        ) from error
    shards: dict[Path, list[str]] = {}
    for key, name in items:
        if not isinstance(name, str) or Path(name).name != name:
            raise WeightsError(
                f"{folder / index}: {key} is said to be in {name!r}, which is not "
                "the name of a file in this folder"
            )
        shards.setdefault(folder / name, []).append(key)
    return shards


def _nothing_found(folder: Path, stem: str) -> str:
    """What to say of a folder without readable weights."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file())
    pickles = [n for n in names if n.endswith(PICKLES)]
    if not pickles:
        return f"{folder}: no {stem}.safetensors here (found: {', '.join(names) or 'nothing'})"
    config = json.loads((folder / "config.json").read_text())
    library = "diffusers" if "_class_name" in config else "transformers"
    name = config.get("_class_name") or config["architectures"][0]
    return (
        f"{folder}: only pickled weights ({pickles[0]}), which are not opened because they can run "
        f'code. Convert them where you trust them: python -c "from {library} import {name} as M; '
        f"M.from_pretrained('{folder}').save_pretrained('{folder}')\""
    )


def write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes a safetensors file that PyTorch users can open; complete or not at all."""
    with replacing(path) as temporary:
        temporary.touch()
        usual = stat.S_IMODE(temporary.stat().st_mode)
        save_file(dict(tensors), temporary, metadata={"format": "pt"})
        if stat.S_IMODE(temporary.stat().st_mode) != usual:
            temporary.chmod(usual)  # safetensors writes files that their owner alone may read


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, which takes the place of `path` once all went well."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
