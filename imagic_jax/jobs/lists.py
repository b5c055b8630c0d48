"""Lists of edits: a JSON-lines file, or a folder in TEdBench's layout.

    {"image": "dog.png", "text": "a sitting dog"}
    {"image": "car.jpg", "text": "a red car", "eta": [0.6, 0.8], "seed": 1, "out": "car-red"}

Pictures are named from the list's own folder. TEdBench's layout is `input_list.json`, a list of
`img_name` and `target_text`, beside `originals/`.
"""

import dataclasses
import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imagic_jax.errors import UserError
from imagic_jax.jobs import output, settings
from imagic_jax.jobs.request import checked_text
from imagic_jax.runtime.paths import AnyPath

_KEYS = ("image", "text", "eta", "strength", "seed", "seeds", "out")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One edit of a list, or a line that is none.

    Attributes:
        number: its line, from 1.
        image, text: what to edit; as they stand in the list.
        path: the picture.
        etas, seeds, seed: in place of the preset's, where given.
        out: its folder, below the list's.
        error: what is wrong with the line; "" for nothing.
    """

    number: int
    image: str = ""
    text: str = ""
    path: AnyPath = Path()
    etas: tuple[float, ...] | None = None
    seeds: tuple[int, ...] | None = None
    seed: int | None = None
    out: str = ""
    error: str = ""


def read_list(path: AnyPath, method: str = "imagic") -> list[Row]:
    """Every edit of a list, in order; broken lines carry their error.

    Raises:
        UserError: there is no such list, or nothing in it.
    """
    if path.is_dir():
        rows = _tedbench(path)
    else:
        try:
            lines = path.read_bytes().decode("utf-8-sig").splitlines()
        except FileNotFoundError as error:
            raise UserError(f"--inputs: there is no file or folder {path}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--inputs: {path} cannot be read as text ({error})") from error
        rows = [_line(i, s, path.parent) for i, s in enumerate(lines, 1) if s.strip()]
    if not rows:
        raise UserError(f'--inputs: {path} is empty; a line is {{"image": "FILE", "text": "..."}}')
    return _with_folders(rows, method)


def _tedbench(folder: AnyPath) -> list[Row]:
    path = folder / "input_list.json"
    try:
        entries = json.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError as error:
        raise UserError(
            f"--inputs: the folder {folder} has no input_list.json: give a JSON-lines file, or a"
            " folder in TEdBench's layout"
        ) from error
    except (OSError, ValueError) as error:
        raise UserError(f"--inputs: {path} cannot be read as JSON ({error})") from error
    if not isinstance(entries, list):
        raise UserError(f"--inputs: {path} must hold a list")
    return [_checked(i, _tedbench_entry(e), folder / "originals") for i, e in enumerate(entries, 1)]


def _tedbench_entry(entry: Any) -> Any:
    if not isinstance(entry, dict) or {"img_name", "target_text"} - set(entry):
        return "expected an object with img_name and target_text"
    return {"image": entry["img_name"], "text": entry["target_text"]}


def _line(number: int, line: str, home: AnyPath) -> Row:
    try:
        entry = json.loads(line)
    except ValueError as error:
        return Row(number=number, error=f"no JSON ({error})")
    if not isinstance(entry, dict):
        entry = "expected an object with image and text"
    return _checked(number, entry, home)


def _checked(number: int, entry: Any, home: AnyPath) -> Row:
    """An entry of a list, or what is wrong with it."""
    if isinstance(entry, str):
        return Row(number=number, error=entry)
    image, text = entry.get("image"), entry.get("text")
    shown = {"number": number, "image": str(image or ""), "text": str(text or "")}
    try:
        return Row(**shown, **_values(entry, home))
    except UserError as error:
        return Row(**shown, error=str(error))


def _values(entry: dict[str, Any], home: AnyPath) -> dict[str, Any]:
    for key in entry:
        if key not in _KEYS:
            close = difflib.get_close_matches(key, _KEYS, 1)
            hint = f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(_KEYS)})"
            raise UserError(f"there is no key {key!r}{hint}")
    for key in ("image", "text"):
        if not isinstance(entry.get(key), str) or not entry[key].strip():
            raise UserError(f"{key!r} is missing or no text")
    found: dict[str, Any] = {"path": home / entry["image"]}
    checked_text(entry["text"])
    if not found["path"].is_file():
        raise UserError(f"there is no picture {found['path']}")
    for name in ("eta", "strength"):
        if name in entry:
            found["etas"] = tuple(settings.number(e, name) for e in _several(entry[name], name))
    if "seeds" in entry:
        found["seeds"] = tuple(_seed(s, "seeds") for s in _several(entry["seeds"], "seeds"))
    if "seed" in entry:
        found["seed"] = _seed(entry["seed"], "seed")
    if "out" in entry:
        found["out"] = _below(entry["out"])
    return found


def _several(value: Any, name: str) -> list[Any]:
    values = value if isinstance(value, list) else [value]
    if not values:
        raise UserError(f"{name!r} is empty")
    if any(isinstance(v, bool) for v in values):
        raise UserError(f"{name!r} must hold numbers")
    return values


def _seed(value: Any, name: str) -> int:
    if isinstance(value, bool):
        raise UserError(f"{name!r} must be a whole number")
    return settings.whole(value, name, 0, settings.MOST_SEED)


def _below(out: Any) -> str:
    if not isinstance(out, str) or not out.strip():
        raise UserError("'out' must name a folder")
    if Path(out).is_absolute() or ".." in Path(out).parts or Path(out) == Path():
        raise UserError(f"'out' must name a folder below --out, got {out!r}")
    return Path(out).as_posix()


def _with_folders(rows: Sequence[Row], method: str) -> list[Row]:
    """Gives every edit a folder of its own, the same in every run of the same line."""
    named = {
        id(r): r.out or output.slug(Path(r.image).stem, r.text, method) for r in rows if not r.error
    }
    often = Counter(named.values())
    taken: dict[str, int] = {}
    found = []
    for row in rows:
        if row.error:
            found.append(row)
            continue
        name = named[id(row)]
        if often[name] > 1 and not row.out:
            name = f"{name}-{_digest(row)}"
        if name in taken:
            what = f"'out' is that of line {taken[name]}" if row.out else "the same as line"
            error = what if row.out else f"{what} {taken[name]}"
            found.append(dataclasses.replace(row, error=error))
            continue
        taken[name] = row.number
        found.append(dataclasses.replace(row, out=name))
    return found


def _digest(row: Row) -> str:
    told = [row.image, " ".join(row.text.split()), row.etas, row.seeds, row.seed]
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
