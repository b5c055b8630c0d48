"""A `Fit` on disk: arrays by Orbax, and `fit.json` that says what they belong to.

`fit.json` is written last: a folder without it is not a finished fit.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from PIL import Image as pil

from imagic_jax.backbones import adapters
from imagic_jax.backbones.contracts import Cond
from imagic_jax.editors.imagic import Fit, StageFit
from imagic_jax.errors import UserError

SCHEMA = 2


def save_fit(folder: Path, fit: Fit, about: dict[str, Any], square: pil.Image) -> None:
    """Writes a fit; an existing one is replaced only when the new one is complete.

    Args:
        folder: the fit's folder.
        fit: what was learnt.
        about: texts, preset, config, fingerprint of the base weights, crop box, versions.
        square: the fitted picture as the model saw it, kept as input.png.
    """
    import orbax.checkpoint as ocp

    fresh = folder.with_name(folder.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save((fresh / "arrays").absolute(), _to_tree(fit))
    square.save(fresh / "input.png")
    record = {"schema": SCHEMA, **about, "files": _digests(fresh / "arrays")}
    (fresh / "fit.json").write_text(json.dumps(record, indent=2) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    fresh.rename(folder)


def read_about(folder: Path) -> dict[str, Any]:
    """fit.json of a fit's folder.

    Raises:
        UserError: this is no fit, or one of another version.
    """
    path = folder / "fit.json"
    if not folder.is_dir():
        raise UserError(f"--fit: there is no folder {folder}")
    if not path.is_file():
        inside = folder / "fit"
        hint = f"; did you mean {inside}?" if (inside / "fit.json").is_file() else ""
        raise UserError(f"--fit: {folder} is no fit: it has no fit.json{hint}")
    try:
        about = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"--fit: {path} is broken or cut off; fit the picture again") from error
    if not isinstance(about, dict) or about.get("schema") != SCHEMA:
        raise UserError(
            f"--fit: {path} is of another version than this program reads (schema {SCHEMA});"
            " fit the picture again"
        )
    return about


def load_fit(folder: Path) -> Fit:
    """The arrays of a fit.

    Raises:
        UserError: they are missing, broken or cut off.
    """
    import orbax.checkpoint as ocp

    broken = UserError(
        f"--fit: the arrays in {folder / 'arrays'} are missing, broken or cut off;"
        " fit the picture again"
    )
    # Looked at before Orbax does: its readers go on complaining after the error.
    if _digests(folder / "arrays") != read_about(folder).get("files"):
        raise broken
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            tree = checkpointer.restore((folder / "arrays").absolute())
        return _from_tree(tree)
    except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
        raise broken from error


def _digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    found = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
    return found


def _to_tree(fit: Fit) -> dict[str, Any]:
    """Plain nested dictionaries without None, which Orbax reads back without a template."""

    def cond(c: Cond) -> dict[str, Any]:
        return {k: v for k, v in c._asdict().items() if v is not None}

    stages = {}
    for i, s in enumerate(fit.stages):
        entry: dict[str, Any] = {"target": cond(s.target), "null": cond(fit.null[i])}
        if s.optimised is not None:
            entry["optimised"] = cond(s.optimised)
        if s.delta is not None:
            entry["delta"] = adapters.unflatten(s.delta)
        stages[str(i)] = entry
    return jax.tree.map(np.asarray, {"stages": stages})


def _from_tree(tree: dict[str, Any]) -> Fit:
    stages, null = [], []
    for i in range(len(tree["stages"])):
        entry = jax.tree.map(jax.numpy.asarray, tree["stages"][str(i)])
        delta = entry.get("delta")
        stages.append(
            StageFit(
                Cond(**entry["target"]),
                Cond(**entry["optimised"]) if "optimised" in entry else None,
                None if delta is None else adapters.flatten(delta),
            )
        )
        null.append(Cond(**entry["null"]))
    return Fit(tuple(stages), tuple(null))
