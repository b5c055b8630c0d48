"""The folder of a user study: `page/` for raters, `key.json` for those who ask.

The page knows no method: pictures are named by salted hashes, trials by random ids. Only the key
tells which side was which.
"""

import hashlib
import io
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation.study_design import QUALITY, QUESTION, Trial, design_hash
from imagic_jax.jobs import output, pictures
from imagic_jax.report.study_page import study_page

SCHEMA = 1
DWELL = 1.5  # seconds before an answer is taken
_LARGEST = 512  # pixels per side that are shown


def write(
    folder: Path, forms: Sequence[Sequence[Trial]], methods: Sequence[str], seed: int, quality: bool
) -> str:
    """Writes page and key; returns the design's hash.

    Raises:
        UserError: the folder holds something else, or a picture cannot be read.
    """
    output.check_writable(folder)
    path = folder / "key.json"
    if folder.is_dir() and any(folder.iterdir()) and not path.is_file():
        raise UserError(f"--to: {folder} is not empty and no study; choose another folder")
    fresh = folder / ".page"
    shutil.rmtree(fresh, ignore_errors=True)
    (fresh / "pictures").mkdir(parents=True)
    rng = random.Random(f"names/{seed}")
    save = _Pictures(fresh / "pictures", rng.randbytes(16), _side(forms))
    shown, key = _named(forms, save, rng)
    questions = [QUESTION, QUALITY] if quality else [QUESTION]
    public: dict[str, Any] = {
        "schema": SCHEMA,
        "questions": questions,
        "dwell": DWELL,
        "side": save.side,
        "forms": shown,
    }
    study = design_hash(public)
    if path.is_file() and f'"{study}"' not in path.read_text():
        shutil.rmtree(fresh)
        raise UserError(
            f"--to: {folder} holds another study, whose answers need its key; choose another folder"
        )
    record = {"schema": SCHEMA, "study": study, "seed": seed, "methods": list(methods)}
    record |= {"questions": questions, "forms": len(forms), "trials": key}
    output.write_text(fresh / "index.html", study_page({**public, "study": study}))
    output.write_text(path, json.dumps(record, indent=1) + "\n")
    shutil.rmtree(folder / "page", ignore_errors=True)
    fresh.rename(folder / "page")
    return study


def _named(
    forms: Sequence[Sequence[Trial]], save: "_Pictures", rng: random.Random
) -> tuple[list[list[dict[str, str]]], dict[str, dict[str, Any]]]:
    """The trials as raters see them, form by form, and what they are, by id."""
    shown, key = [], {}
    for number, form in enumerate(forms, 1):
        page = []
        for trial in form:
            name = rng.randbytes(6).hex()
            left, right = (save(trial.picture(m)) for m in (trial.left, trial.right))
            given = {"input": save(trial.entry.input), "left": left, "right": right}
            page.append({"id": name, "text": trial.entry.text, **given})
            key[name] = {
                "form": number,
                "kind": trial.kind,
                "item": trial.entry.item,
                "group": trial.entry.group,
                "left": trial.left,
                "right": trial.right,
            }
        shown.append(page)
    return shown, key


def _side(forms: Sequence[Sequence[Trial]]) -> int:
    """Pixels per side at which all pictures are shown: the smallest result's, within reason."""
    trials = {t.picture(m) for form in forms for t in form for m in (t.left, t.right)}
    sides = []
    for path in trials:
        with pil.open(path) as opened:
            sides.append(min(opened.size))
    return min(max(min(sides), 16), _LARGEST)


class _Pictures:
    """Saves pictures as squares of one size under names that tell nothing."""

    def __init__(self, folder: Path, salt: bytes, side: int):
        self._folder, self._salt, self.side = folder, salt, side
        self._names: dict[Path, str] = {}

    def __call__(self, path: Path) -> str:
        """The saved picture's path below the page."""
        if path not in self._names:
            square = pictures.load_source(path, self.side).square[0]
            buffer = io.BytesIO()
            pictures.to_pil(square).save(buffer, "PNG")
            data = buffer.getvalue()
            name = hashlib.sha256(self._salt + data).hexdigest()[:20] + ".png"
            (self._folder / name).write_bytes(data)
            self._names[path] = f"pictures/{name}"
        return self._names[path]
