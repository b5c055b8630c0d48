"""The pictures and rows of one contender and item: a unit, kept whole or not at all."""

import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from imagic_jax.errors import UserError
from imagic_jax.evaluation import manifest
from imagic_jax.evaluation.contenders import Outcome
from imagic_jax.evaluation.costs import Cost
from imagic_jax.evaluation.items import Item
from imagic_jax.evaluation.scoring import fault_of
from imagic_jax.flatland.reader import SIZE

Units = dict[tuple[str, str], list[dict[str, Any]]]


def whole_units(found: Sequence[dict[str, Any]]) -> Units:
    """Rows by (method, item), without those of units that were not finished.

    Every row says how many its unit has.
    """
    units: Units = defaultdict(list)
    for row in found:
        units[row["method"], row["item"]].append(row)
    return {key: unit for key, unit in units.items() if len(unit) == unit[0]["unit_rows"]}


def pictures_file(out: Path, method: str, item: Item) -> Path:
    """Where the pictures of a unit are."""
    return out / "pictures" / method / f"{item.name}.npz"


def save_pictures(
    path: Path,
    outcome: Outcome,
    strengths: Sequence[float],
    seeds: Sequence[int],
    fault: str = "",
) -> None:
    """Keeps the pictures of a unit as bytes, with what is wrong with those that are no pictures.

    `fault` is what is wrong with all of them, where the contender failed as a whole.
    """
    shape = (len(strengths), len(seeds))
    pictures = np.zeros((*shape, SIZE, SIZE, 3), np.uint8)
    faults = np.full(shape, fault[:160], dtype="U160")
    got = np.asarray(outcome.pictures)
    for e, s in np.ndindex(*shape):
        if fault:
            continue
        if got.ndim != 5:
            faults[e, s] = f"of another shape: {' x '.join(map(str, got.shape))}"
        elif e >= got.shape[0] or s >= got.shape[1]:
            faults[e, s] = "missing"
        elif found := fault_of(got[e, s]):
            faults[e, s] = found
        else:
            pictures[e, s] = manifest.to_bytes(got[e, s])
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp.npz")
    np.savez_compressed(
        temporary,
        pictures=pictures,
        faults=faults,
        strengths=np.asarray(strengths, np.float64),
        seeds=np.asarray(seeds, np.int64),
        cost=np.asarray(outcome.cost, np.float64),
    )
    temporary.replace(path)


class Unit(NamedTuple):
    """The saved pictures of one contender and item."""

    pictures: UInt8[np.ndarray, "e s h w 3"]
    faults: np.ndarray  # of strings, (e, s)
    strengths: Float[np.ndarray, " e"]
    seeds: Int[np.ndarray, " s"]
    cost: Cost

    @classmethod
    def read(cls, path: Path) -> "Unit":
        """Reads what `save_pictures` wrote.

        Raises:
            UserError: it cannot be read.
        """
        try:
            with np.load(path) as saved:
                names = ("pictures", "faults", "strengths", "seeds")
                pictures, faults, strengths, seeds = (saved[n] for n in names)
                return cls(
                    pictures,
                    faults,
                    strengths,
                    seeds,
                    Cost(**dict(zip(Cost._fields, saved["cost"].tolist(), strict=True))),
                )
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is missing or broken ({error}); remove it and run again"
            ) from error

    def at(self, strength: float) -> tuple[Float[np.ndarray, "h w 3"], str]:
        """The picture of the first seed at the nearest strength, and what is wrong with it."""
        e = int(np.abs(self.strengths - strength).argmin())
        return self.pictures[e, 0] / np.float32(255.0), str(self.faults[e, 0])

    def each(self) -> Iterator[tuple[Float[np.ndarray, "h w 3"], str]]:
        """Every picture in [0, 1] with what is wrong with it, strengths slowest."""
        for e, s in np.ndindex(*self.faults.shape):
            yield self.pictures[e, s] / np.float32(255.0), str(self.faults[e, s])
