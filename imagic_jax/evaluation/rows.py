"""Lines of JSON that are written as a run goes, and read again after it was killed."""

import gzip
import json
import math
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from imagic_jax.errors import UserError
from imagic_jax.jobs import output


def read(path: Path) -> list[dict[str, Any]]:
    """The whole lines of a file, up to the first that was torn; none if there is no file.

    A file that was put away by gzip, PATH.gz, is read in its place.

    Raises:
        UserError: that one is broken.
    """
    found = []
    for line in _text(path).splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            break
        if not isinstance(row, dict):
            break
        found.append(row)
    return found


def _text(path: Path) -> str:
    if path.is_file():
        return path.read_text(encoding="utf-8")
    packed = path.with_name(f"{path.name}.gz")
    try:
        return gzip.decompress(packed.read_bytes()).decode() if packed.is_file() else ""
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise UserError(f"{packed} cannot be read ({error})") from error


def write(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Writes a file in one step."""
    output.write_text(path, "".join(_line(r) for r in rows))


def append(path: Path, row: dict[str, Any]) -> None:
    """Adds one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(_line(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(plain(row), allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """`value` as JSON knows it: lists for tuples, None for what is no finite number."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
