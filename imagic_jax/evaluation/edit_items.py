"""What every public editing benchmark comes down to: pictures, texts, masks, and where results lie.

A benchmark is read as it was published, never repaired: what cannot be used is a `Problem`, which
every table counts and names.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.jobs import pictures
from imagic_jax.jobs.pictures import Source

#: Endings under which a result may lie; the published one is tried first.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class RunLengths(NamedTuple):
    """A mask as PIE-Bench writes it; True where the edit belongs."""

    runs: tuple[int, ...]  # start, length, start, length, ... over the pixels row by row
    size: int = 512

    def decode(self) -> Bool[np.ndarray, "s s"]:
        """The mask as annotated. Runs that reach beyond the picture are cut off."""
        flat = np.zeros(self.size * self.size, bool)
        for start, length in zip(self.runs[::2], self.runs[1::2], strict=True):
            flat[start : start + length] = True
        return flat.reshape(self.size, self.size)

    def scaled(self, size: int) -> Bool[np.ndarray, "t t"]:
        """The mask as annotated at another size, nearest pixels."""
        return scaled_mask(self.decode(), size)


def scaled_mask(mask: Bool[np.ndarray, "s s"], size: int) -> Bool[np.ndarray, "t t"]:
    """A mask at another size, nearest pixels."""
    return np.asarray(pil.fromarray(mask).resize((size, size), pil.Resampling.NEAREST))


class EditItem(NamedTuple):
    """One edit to be made."""

    id: str  # unique in its benchmark
    image: Path
    target_text: str  # verbatim, odd spellings included
    output: str  # the result's path below a method's folder, as the benchmark names it
    source_text: str | None = None
    mask: RunLengths | None = None
    edit_type: str | None = None
    group: str = ""  # the same for all items of one picture: they are no independent samples


class Problem(NamedTuple):
    """Something that keeps an item from being scored, or a result from being trusted."""

    what: str  # a few words, the same for all of a kind: they are counted
    item: str
    detail: str = ""
    method: str = ""  # "": it lies in the data


class Benchmark(NamedTuple):
    """A benchmark's items that can be used, and what is wrong with the others."""

    suite: str
    items: tuple[EditItem, ...]
    problems: tuple[Problem, ...] = ()
    strips: bool = False  # results may be strips of squares whose last one counts (PIE-Bench)
    digest: str = ""  # a short hash of what is asked: pictures by content, texts, masks
    notes: tuple[str, ...] = ()  # what was done to pictures in reading them

    @property
    def listed(self) -> int:
        """How many items the benchmark lists, usable or not."""
        return len({i.id for i in self.items} | {p.item for p in self.problems})

    def first(self, count: int) -> "Benchmark":
        """The same with its first `count` items alone; the others are not asked for."""
        kept = {i.id for i in self.items[:count]}
        of_others = {i.id for i in self.items} - kept
        problems = tuple(p for p in self.problems if p.item not in of_others)
        return self._replace(items=self.items[:count], problems=problems)


def make(suite: str, folder: Path, items: Iterable[EditItem], *, strips: bool = False) -> Benchmark:
    """Looks at every picture and groups items of the same one.

    Items whose picture is missing or broken, and items that were listed before, become problems.

    Raises:
        UserError: nothing is left.
    """
    good: list[EditItem] = []
    bad: list[Problem] = []
    groups: dict[str, str] = {}
    looked: dict[Path, Source | Problem] = {}
    outputs: set[str] = set()
    asked: list[Any] = []
    for item in items:
        if item.image not in looked:
            looked[item.image] = _look_at(item)
        seen = looked[item.image]
        if isinstance(seen, Problem):
            bad.append(seen._replace(item=item.id))
        elif item.output in outputs:
            bad.append(Problem("listed twice", f"{item.id} (again)", f"as {item.output}"))
        else:
            outputs.add(item.output)
            group = groups.setdefault(seen.digest, item.image.name)
            good.append(item._replace(group=group))
            asked.append((seen.digest, item.id, item.target_text, item.source_text, item.mask))
    if not good:
        first = f": {bad[0].detail}" if bad else ""
        raise UserError(f"--data: {folder} holds no usable item of {suite}{first}")
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:16]
    return Benchmark(suite, tuple(good), tuple(bad), strips, digest, _notes(looked.values()))


def _look_at(item: EditItem) -> Source | Problem:
    """An item's picture, small, or what is wrong with it."""
    if not item.image.is_file():
        return Problem("picture missing", item.id, f"there is no file {item.image}")
    try:
        seen = pictures.load_source(item.image, pictures.SMALLEST)
    except UserError as error:
        return Problem("picture unreadable", item.id, str(error).removeprefix("--image: "))
    height, width = seen.upright.shape[:2]
    cut = ("its middle square was cut out",) if height != width else ()
    return seen._replace(upright=seen.upright[:0], notes=(*cut, *seen.notes))


def _notes(looked: Iterable[Source | Problem]) -> tuple[str, ...]:
    """How many pictures each thing was done to."""
    count = Counter(n for s in looked if isinstance(s, Source) for n in s.notes)
    return tuple(f"{n} x {note}" for note, n in count.items())


def inside(folder: Path, name: str, where: str) -> Path:
    """`folder`/`name`, where `name` comes from a file and must stay inside.

    Raises:
        UserError: it leads elsewhere.
    """
    path = PurePosixPath(name)
    if not name or path.is_absolute() or ".." in path.parts or "\\" in name or "\0" in name:
        raise UserError(f"--data: {where}: {name!r} is no path inside {folder}")
    return folder / path


def find_output(folder: Path, item: EditItem) -> Path | None:
    """An item's result below a method's folder, under its published name or another ending."""
    published = folder / item.output
    for suffix in dict.fromkeys((published.suffix, *PICTURE_SUFFIXES)):
        path = published.with_name(published.name.removesuffix(published.suffix) + suffix)
        if path.is_file():
            return path
    return None


def strangers(folder: Path, items: Sequence[EditItem]) -> list[str]:
    """Pictures below a method's folder that belong to no item."""
    known = {find_output(folder, i) for i in items}
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURE_SUFFIXES)
    return [p.relative_to(folder).as_posix() for p in files if p not in known]
