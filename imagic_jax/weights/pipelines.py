"""Copies of pipeline folders: `model_index.json` and the parts that it names."""

import json
import re
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from imagic_jax.weights.hub_files import wanted_files
from imagic_jax.weights.modules import read_json

INDEX = "model_index.json"
_SHARD = re.compile(r"-\d{5}-of-\d{5}")


def copy_pipeline(source: Path, target: Path, leave_out: Collection[str] = ()) -> None:
    """Copies a pipeline's folder, of every part one precision of its weights.

    Parts that the index names but the folder lacks (a safety checker, say, which nothing here
    reads) or holds as pickles alone become null in the copy's index: PyTorch then opens it without
    them. Half-precision files lose their `.fp16`, so that no variant has to be named.

    Args:
      source: holds `model_index.json`.
      target: where to copy to; made if need be.
      leave_out: parts that the caller writes.

    Raises:
      WeightsError: `model_index.json` is missing or broken.
      OSError: something cannot be read or written.
    """
    index = read_json(source / INDEX)
    target.mkdir(parents=True, exist_ok=True)
    lacking = []
    for part in (name for name, value in index.items() if _is_part(value)):
        if part in leave_out:
            continue
        files = _files(source / part)
        if not files:
            lacking.append(part)
        for name in files:
            copy = target / part / _without_variant(name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / part / name, copy)
    if lacking:
        index |= {part: [None, None] for part in lacking}
        (target / INDEX).write_text(json.dumps(index, indent=2) + "\n")
    else:
        shutil.copyfile(source / INDEX, target / INDEX)


def _is_part(value: Any) -> bool:
    """Whether an entry of the index is [library, class]."""
    return isinstance(value, list) and len(value) == 2 and value[0] is not None


def _files(folder: Path) -> list[str]:
    """The files of one part that are read; none where it is missing or has pickled weights."""
    listing = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
    wanted = wanted_files(listing)
    weighty = "config.json" in listing
    return wanted if not weighty or any(".safetensors" in n for n in wanted) else []


def _without_variant(name: str) -> str:
    """A whole file or an index without `.fp16`; shards are called what their index calls them."""
    return name if _SHARD.search(name) else name.replace(".fp16", "")
