"""Pictures of results: contact sheets chosen by a fixed rule, and the paper's ablation strip."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image as pil

from imagic_jax.evaluation.items import Item
from imagic_jax.report.strips import enlarge, grid


def by_hash(items: Sequence[Item], count: int) -> list[Item]:
    """The first `count` items in the order of their names' hashes: nobody's choice."""
    return sorted(items, key=lambda i: hashlib.sha256(i.name.encode()).hexdigest())[:count]


def _picture(array: np.ndarray) -> pil.Image:
    return enlarge(pil.fromarray(array), 128)


def contact_sheet(
    items: Sequence[Item], pictures: Path, etas: Sequence[float], seed: int = 0
) -> pil.Image:
    """Source, ideal edit and the sweep of every item, one item per row.

    Args:
        items: rows, in this order.
        pictures: folder of ITEM.npz as `imagic_bench.run` leaves them.
        etas: what the pictures were rendered with.
        seed: index of the seed shown.
    """
    rows = []
    for item in items:
        saved = np.load(pictures / f"{item.name}.npz")
        swept = [_picture(saved["imagic"][e, seed]) for e in range(len(etas))]
        rows.append([_picture(saved["source"]), _picture(saved["ideal"]), *swept])
    headings = ["input", "ideal edit", *(f"eta {e:g}" for e in etas)]
    return grid(rows, headings, [_two_lines(i.text) for i in items])


def _two_lines(text: str) -> str:
    words = text.split()
    half = (len(words) + 1) // 2
    return " ".join(words[:half]) + "\n" + " ".join(words[half:])


def ablation_strip(
    items: Sequence[Item], pictures: Path, etas: Sequence[float], seed: int = 0
) -> pil.Image:
    """The paper's Fig. 7: per item the pre-trained model above the tuned one, eta to the right."""
    rows, labels = [], []
    for item in items:
        saved = np.load(pictures / f"{item.name}.npz")
        source = _picture(saved["source"])
        for kind, stack in (("pre-trained", saved["untuned"]), ("tuned", saved["imagic"][:, seed])):
            rows.append([source, *(_picture(p) for p in stack)])
            labels.append(f"{_two_lines(item.text)}\n{kind}")
    return grid(rows, ["input", *(f"eta {e:g}" for e in etas)], labels)
