"""PIE-Bench as published (PnP Inversion, ICLR 2024): 700 pictures, ten kinds of edits, masks.

`mapping_file.json` maps an id to `image_path` (below `annotation_images/`), `original_prompt`,
`editing_prompt` (changed words in [brackets]), `editing_type_id` and `mask`, run lengths over
512 x 512 pixels.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Bool

from imagic_jax.errors import UserError
from imagic_jax.evaluation import edit_items
from imagic_jax.evaluation.edit_items import Benchmark, EditItem, Problem, RunLengths

MAPPING = "mapping_file.json"
PICTURES = "annotation_images"
SIDE = 512
#: Kinds of edits by `editing_type_id`.
TYPES = (
    "random",
    "change object",
    "add object",
    "delete object",
    "change content",
    "change pose",
    "change colour",
    "change material",
    "change background",
    "change style",
)
_TEXTS = ("image_path", "original_prompt", "editing_prompt", "editing_type_id")


def load(folder: Path, unpacked: Path) -> Benchmark:
    """Reads PIE-Bench from its folder. Nothing is written to `unpacked`.

    Raises:
        UserError: the mapping is missing or of another form.
    """
    path = folder / MAPPING
    if not path.is_file():
        raise UserError(f"--data: {folder} is no PIE-Bench: it has no {MAPPING}")
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"--data: {path} is broken or cut off ({error})") from error
    if not isinstance(rows, dict) or not rows:
        raise UserError(f"--data: {path} must map ids to edits")
    items = list(_items(folder, rows))
    made = edit_items.make("piebench", folder, items, strips=True)
    empty = tuple(
        Problem("mask empty", i.id, "nothing is marked as to be edited")
        for i in made.items
        if i.mask is not None and not i.mask.decode().any()
    )
    return made._replace(problems=made.problems + empty)


def _items(folder: Path, rows: Mapping[str, Any]) -> Iterator[EditItem]:
    for key, row in rows.items():
        where = f"{MAPPING}, {key}"
        if not isinstance(row, Mapping):
            raise UserError(f"--data: {where} must hold named values")
        for name in _TEXTS:
            if not isinstance(row.get(name), str):
                has = ", ".join(map(str, row))
                raise UserError(f"--data: {where} has no {name} (it has {has})")
        kind = row["editing_type_id"]
        if not kind.isdecimal() or int(kind) >= len(TYPES):
            raise UserError(f"--data: {where}: editing_type_id must be 0..9, got {kind!r}")
        target = without_brackets(row["editing_prompt"])
        if not target:
            raise UserError(f"--data: {where} has an empty editing_prompt")
        name = PurePosixPath(PICTURES, row["image_path"]).as_posix()
        yield EditItem(
            id=key,
            image=edit_items.inside(folder, name, where),
            target_text=target,
            output=PurePosixPath(name).with_suffix(".png").as_posix(),
            source_text=without_brackets(row["original_prompt"]),
            mask=RunLengths(_runs(row.get("mask"), where), SIDE),
            edit_type=TYPES[int(kind)],
        )


def without_brackets(prompt: str) -> str:
    """The prompt as models read it; brackets only mark the words that change."""
    return prompt.replace("[", "").replace("]", "").strip()


def _runs(mask: Any, where: str) -> tuple[int, ...]:
    whole = isinstance(mask, list) and all(type(v) is int and v >= 0 for v in mask)
    if not whole or len(mask) % 2:
        raise UserError(f"--data: {where}: mask must be a list start, length, start, length, ...")
    if any(start >= SIDE * SIDE for start in mask[::2]):
        raise UserError(f"--data: {where}: the mask begins outside of {SIDE} x {SIDE} pixels")
    return tuple(mask)


def edit_mask(mask: RunLengths) -> Bool[np.ndarray, "s s"]:
    """The mask that scores use: as annotated, and one pixel around the picture.

    The reference adds the border against annotation errors; published numbers depend on it.
    """
    decoded = mask.decode()
    decoded[[0, -1], :] = True
    decoded[:, [0, -1]] = True
    return decoded
