"""The summary of a list of edits: summary.json, summary.md and index.html."""

import dataclasses
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from imagic_jax.jobs import output
from imagic_jax.report.list_page import list_page
from imagic_jax.runtime.paths import AnyPath

GOOD = ("done", "done before")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """What became of one line of a list.

    Attributes:
        status: "done", "done before", "failed", "broken line" or "not done yet".
        folder: of the edit, below the list's; "" for a broken line.
        seconds: wall time of the group that the picture was edited in.
        warnings: how many there are in the edit's result.json.
        error: why it failed or is broken.
    """

    line: int
    image: str
    text: str
    status: str
    folder: str = ""
    strengths: Sequence[float] = ()
    seeds: Sequence[int] = ()
    reconstruction_psnr: float | None = None
    embedding_distance: float | None = None
    seconds: float | None = None
    warnings: int = 0
    error: str = ""


def counts(entries: Sequence[Entry]) -> str:
    """How many of each kind, e.g. "11 done, 1 failed"."""
    found = Counter(e.status for e in entries)
    return ", ".join(f"{n} {status}" for status, n in found.items())


def write_summary(out: AnyPath, entries: Sequence[Entry]) -> None:
    """Writes all three files into the list's folder."""
    rows = [dataclasses.asdict(e) for e in entries]
    record = {"counts": dict(Counter(e.status for e in entries)), "edits": rows}
    output.write_text(out / "summary.json", json.dumps(record, indent=2) + "\n")
    output.write_text(out / "summary.md", _markdown(entries))
    output.write_text(out / "index.html", list_page(counts(entries), rows))


_HEAD = ("line", "picture", "text", "status", "PSNR at eta 0", "embedding moved", "s", "folder")


def _markdown(entries: Sequence[Entry]) -> str:
    lines = [counts(entries), "", _cells(_HEAD), _cells(["---"] * len(_HEAD))]
    lines += [_cells(row_cells(dataclasses.asdict(e))) for e in entries]
    return "\n".join(lines) + "\n"


def _cells(cells: Sequence[Any]) -> str:
    return "| " + " | ".join(str(c).replace("|", "\\|").replace("\n", " ") for c in cells) + " |"


def row_cells(row: dict[str, Any]) -> list[Any]:
    """The cells of one edit, as `_HEAD` names them."""

    def number(name: str, digits: int, unit: str = "") -> str:
        value = row[name]
        return "" if value is None else f"{value:.{digits}f}{unit}"

    return [
        row["line"],
        row["image"],
        row["text"],
        f"{row['status']}: {row['error']}" if row["error"] else row["status"],
        number("reconstruction_psnr", 1, " dB"),
        number("embedding_distance", 3),
        number("seconds", 0),
        row["folder"],
    ]
