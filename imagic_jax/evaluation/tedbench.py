"""TEdBench and TEdBench++ as published (Imagic, CVPR 2023; LEDITS++, CVPR 2024).

Three layouts, no pictures of which ship with this package (TEdBench states no licence):

* the authors' folder: `input_list.json` (a list of `img_name`, `target_text`), `originals/`, and
  `imagic/` with their results;
* the Hugging Face copy: Parquet files of `original_image`, `caption`, `edited_image`;
* TEdBench++: `tedbench++.csv` with `img_name`, `target_text` (and settings of LEDITS++).

Texts are kept verbatim ("enterance", "convertable"): they are what every method was given.
"""

import csv
import hashlib
import io
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation import edit_items
from imagic_jax.evaluation.edit_items import Benchmark, EditItem
from imagic_jax.jobs import output

LIST = "input_list.json"
_COLUMNS = ("original_image", "caption", "edited_image")
_LONGEST = 200  # bytes of a file name; file systems end at 255


def load(folder: Path, unpacked: Path) -> Benchmark:
    """Reads TEdBench from the authors' folder or the Hugging Face copy.

    Args:
        folder: the data.
        unpacked: where pictures of Parquet files are written to.

    Raises:
        UserError: it is neither, or its list is of another form.
    """
    for place in (folder, folder / "tedbench"):  # the authors' repository holds it one deeper
        if (place / LIST).is_file():
            return load_folder(place)
    files = sorted(folder.rglob("*.parquet")) if folder.is_dir() else [folder]
    if not files or files[0].suffix != ".parquet":
        raise UserError(
            f"--data: {folder} is no TEdBench: it holds neither {LIST} (the authors' folder) nor"
            " Parquet files (the Hugging Face copy)"
        )
    return load_folder(unpack(files, unpacked))


def load_folder(folder: Path) -> Benchmark:
    """The authors' layout."""
    path = folder / LIST
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"--data: {path} is broken or cut off ({error})") from error
    if not isinstance(rows, list) or not rows:
        raise UserError(f"--data: {path} must hold a list of edits, not {_kind(rows)}")
    return edit_items.make("tedbench", folder, list(_items(folder, path, rows)))


def load_plus(folder: Path, unpacked: Path) -> Benchmark:
    """TEdBench++.

    Raises:
        UserError: the table is missing or lacks a column.
    """
    found = sorted(folder.glob("*.csv"))
    if len(found) != 1:
        raise UserError(
            f"--data: {folder} is no TEdBench++: it must hold tedbench++.csv and originals/, and"
            f" holds {len(found) or 'no'} CSV files"
        )
    try:
        with found[0].open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
    except (ValueError, csv.Error) as error:
        raise UserError(f"--data: {found[0]} is no table in UTF-8 ({error})") from error
    if not rows:
        raise UserError(f"--data: {found[0]} lists no edits")
    return edit_items.make("tedbench++", folder, list(_items(folder, found[0], rows)))


def _items(folder: Path, path: Path, rows: list[Any]) -> Iterator[EditItem]:
    originals = folder / "originals"
    if not originals.is_dir():
        raise UserError(f"--data: {folder} has no folder originals/ beside {path.name}")
    for number, row in enumerate(rows, 1):
        where = f"{path.name}, entry {number}"
        name, text = (_entry(row, key, where) for key in ("img_name", "target_text"))
        image = edit_items.inside(originals, name, where)
        result = output_name(name, text)
        yield EditItem(id=result.removesuffix(".png"), image=image, target_text=text, output=result)


def _entry(row: Any, key: str, where: str) -> str:
    value = row.get(key) if isinstance(row, Mapping) else None
    if isinstance(value, str) and value.strip():
        return value
    has = ", ".join(map(str, row)) if isinstance(row, Mapping) else _kind(row)
    raise UserError(f"--data: {where} has no {key}; every edit needs img_name and target_text"
                    f" (it has {has})")  # fmt: skip


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}" if value else f"an empty {type(value).__name__}"


def output_name(img_name: str, target_text: str) -> str:
    """The authors' rule: `<img_name>-<text without its final dot, spaces as _>.png`.

    Slashes become _, too. Where a file system would refuse the name, its end is a hash.
    """
    stem = f"{img_name}-{target_text.removesuffix('.').replace(' ', '_')}"
    stem = stem.replace("/", "_").replace("\\", "_").replace("\0", "_")
    if len(stem.encode()) > _LONGEST:
        digest = hashlib.sha256(stem.encode()).hexdigest()[:12]
        stem = stem.encode()[: _LONGEST - 13].decode(errors="ignore") + "-" + digest
    return stem + ".png"


def unpack(files: list[Path], folder: Path) -> Path:
    """Writes the Hugging Face copy as the authors' folder; returns that.

    Raises:
        UserError: pyarrow is not installed, or the files are of another form.
    """
    if (folder / LIST).is_file():
        return folder
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("originals", "imagic"):
        (folder / name).mkdir(parents=True)
    listed = []
    for row in _rows(files):
        name = _save(row["original_image"], folder / "originals")
        if row["edited_image"] is not None:
            where = folder / "imagic" / output_name(name, row["caption"])
            where.write_bytes(row["edited_image"]["bytes"])
        listed.append({"img_name": name, "target_text": row["caption"]})
    output.write_text(folder / LIST, json.dumps(listed, indent=1))  # last: all is there
    return folder


def _rows(files: list[Path]) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(
            "--data: reading Parquet files needs pyarrow: pip install 'imagic-jax[parquet]'"
        ) from error
    for path in files:
        try:
            table = parquet.ParquetFile(path)
            missing = [c for c in _COLUMNS if c not in table.schema_arrow.names]
            if missing:
                has = ", ".join(table.schema_arrow.names)
                raise UserError(f"--data: {path} has no column {missing[0]} (it has {has})")
            for batch in table.iter_batches(batch_size=8, columns=list(_COLUMNS)):
                yield from batch.to_pylist()
        except (ArrowException, OSError) as error:
            raise UserError(f"--data: {path} cannot be read ({error})") from error


def _save(picture: dict[str, Any], folder: Path) -> str:
    """Writes a picture under its own name, or one made from its content; returns the name."""
    data: bytes = picture["bytes"]
    digest = hashlib.sha256(data).hexdigest()[:12]
    name = Path(picture.get("path") or "").name
    if not name:
        with pil.open(io.BytesIO(data)) as opened:
            name = f"{digest}.{(opened.format or 'png').lower()}"
    path = folder / name
    if path.is_file() and path.read_bytes() != data:
        path = folder / f"{digest}-{name}"
    path.write_bytes(data)
    return path.name
