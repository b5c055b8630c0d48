"""Flatland's benchmark items as a folder in TEdBench's layout, ideal edits beside it.

    python benchmarks/flatland_folder.py --out=flatland --count=20
    imagic evaluate --suite=tedbench --data=flatland --score_only --methods=ideal
    imagic study --inputs=flatland --results=... --truth=flatland/ideal --to=study

So every runner, and the study page with its trials of known answers, can be tried without any
download.
"""

import json
from pathlib import Path

import numpy as np
from absl import app, flags
from PIL import Image as pil

from imagic_jax.evaluation.items import items
from imagic_jax.evaluation.tedbench import LIST, output_name

_OUT = flags.DEFINE_string("out", "flatland", "folder that is made")
_COUNT = flags.DEFINE_integer("count", 20, "items")
_SIZE = flags.DEFINE_integer("size", 128, "pixels per side")


def main(_) -> None:
    write(Path(_OUT.value), _COUNT.value, _SIZE.value)


def write(out: Path, count: int, size: int) -> None:
    """Writes `count` validation items; of several ideal edits the first."""
    rows = []
    for name in ("originals", "ideal"):
        (out / name).mkdir(parents=True)
    for item in items("validation", count):
        source, ideals = item.pictures(size)
        name = f"{item.name}.png"
        save(source, out / "originals" / name)
        save(ideals[0], out / "ideal" / output_name(name, item.text))
        rows.append({"img_name": name, "target_text": item.text})
    (out / LIST).write_text(json.dumps(rows, indent=2) + "\n")


def save(picture: np.ndarray, path: Path) -> None:
    pil.fromarray((np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)).save(path)


if __name__ == "__main__":
    app.run(main)
