"""Pictures of results: contact sheets by a fixed rule, and strips of sweeps (Figs. 7 and 15).

Items are the first ones by the hashes of their names, or the worst by score: nobody's choice.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation.items import Item
from imagic_jax.evaluation.manifest import to_bytes
from imagic_jax.evaluation.tables import Sweep
from imagic_jax.evaluation.units import Unit, pictures_file
from imagic_jax.report.strips import enlarge, grid

_SIDE = 128  # pixels of a shown picture


def worst(items: Sequence[Item], sweep: Sweep, strength: float, count: int) -> list[Item]:
    """The `count` items with the lowest joint success, then bounded skill, at one strength."""
    at = sweep.strengths.index(strength)
    joint, skill = (sweep.values(k)[..., at] for k in ("joint", "skill_bounded"))

    def mean(values: np.ndarray) -> float:
        finite = values[np.isfinite(values)]
        return float(finite.mean()) if len(finite) else -1.0

    order = {name: (mean(joint[i]), mean(skill[i])) for i, name in enumerate(sweep.items)}
    there = [i for i in items if i.name in order]
    return sorted(there, key=lambda i: order[i.name])[:count]


def contact_sheet(items: Sequence[Item], out: Path, chosen: Mapping[str, float]) -> pil.Image:
    """Input, an ideal edit and every method at its strength with its first seed, an item a row.

    Args:
        items: rows, in this order.
        out: the result folder.
        chosen: the strength of every method that is shown.
    """
    rows = []
    for item in items:
        source, ideals = item.pictures()
        row = [_picture(to_bytes(source)), _picture(to_bytes(ideals[0]))]
        for method, strength in chosen.items():
            row.append(_shown(out, method, item, lambda u, s=strength: _at(u, s)))
        rows.append(row)
    headings = ["input", "ideal edit", *map(_heading, chosen)]
    return grid(rows, headings, [f"{_two_lines(i.text)}\n({i.edit})" for i in items])


def _heading(method: str) -> str:
    """A method's name, short enough to stand above its picture."""
    return method.removeprefix("imagic_").replace("_", " ")


def ablation_strip(items: Sequence[Item], out: Path, tuned: str, bare: str) -> pil.Image:
    """The paper's Fig. 7: per item the pre-trained model above the tuned one, eta to the right."""
    kinds = {bare: "pre-trained", tuned: "tuned"}
    return _strips(items, out, [(m, 0, kind) for m, kind in kinds.items()])


def seed_strip(item: Item, out: Path, method: str, seeds: int) -> pil.Image:
    """The paper's Fig. 15: one item, a seed per row, eta to the right."""
    return _strips([item], out, [(method, s, f"seed {s}") for s in range(seeds)])


def _strips(items: Sequence[Item], out: Path, lines: Sequence[tuple[str, int, str]]) -> pil.Image:
    """Sweeps as rows: (method, seed, label) for every item."""
    rows, labels, etas = [], [], []
    for item in items:
        source = _picture(to_bytes(item.pictures()[0]))
        for method, seed, label in lines:
            unit = Unit.read(pictures_file(out, method, item))
            seed = min(seed, len(unit.seeds) - 1)
            rows.append([source, *(_picture(p) for p in unit.pictures[:, seed])])
            labels.append(f"{_two_lines(item.text)}\n{label}")
            etas = etas or [f"eta {e:g}" for e in unit.strengths]
    return grid(rows, ["input", *etas], labels)


def _shown(out: Path, method: str, item: Item, choose: Callable[[Unit], np.ndarray]) -> pil.Image:
    """A method's picture; grey with a cross where there is none."""
    try:
        return _picture(choose(Unit.read(pictures_file(out, method, item))))
    except UserError:
        cross = np.full((64, 64, 3), 220, np.uint8)
        cross[np.arange(64), np.arange(64)] = cross[np.arange(64), 63 - np.arange(64)] = 120
        return _picture(cross)


def _at(unit: Unit, strength: float) -> np.ndarray:
    return unit.pictures[int(np.abs(unit.strengths - strength).argmin()), 0]


def _picture(array: np.ndarray) -> pil.Image:
    return enlarge(pil.fromarray(array), _SIDE)


def _two_lines(text: str) -> str:
    words = text.split()
    half = (len(words) + 1) // 2
    return " ".join(words[:half]) + "\n" + " ".join(words[half:])
