"""A fit on disk: arrays by Orbax, and `fit.json` that says what they belong to.

Any method's fit: Imagic's `Fit`, or a pytree of arrays with the inputs it was made from (`trees`).
`fit.json` is written last: a folder without it is not a finished fit.
"""

import hashlib
import json
from typing import Any

import jax
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.jobs import trees
from imagic_jax.jobs.output import save_picture
from imagic_jax.runtime.checkpoint import absolute, own_process
from imagic_jax.runtime.paths import AnyPath, files_below, is_remote, remove

SCHEMA = 3


def save_fit(folder: AnyPath, fit: Any, about: dict[str, Any], square: pil.Image) -> None:
    """Writes a fit; an existing one is replaced only when the new one is complete.

    Args:
        folder: the fit's folder.
        fit: what was learnt, a pytree with at least one array.
        about: method, texts, preset, config, fingerprint of the base weights, crop box, versions.
        square: the fitted picture as the model saw it, kept as input.png.
    """
    import orbax.checkpoint as ocp

    # A bucket knows no rename: there fit.json, written last, says that the rest is whole.
    fresh = folder if is_remote(folder) else folder.with_name(folder.name + ".new")
    remove(fresh)
    structure, arrays = trees.pack(fit)
    with ocp.StandardCheckpointer(**_options()) as checkpointer:
        checkpointer.save(absolute(fresh / "arrays"), arrays)
    save_picture(square, fresh / "input.png")
    files = _digests(fresh / "arrays")
    record = {"schema": SCHEMA, **about, "structure": structure, "files": files}
    (fresh / "fit.json").write_text(json.dumps(record, indent=2) + "\n")
    if fresh != folder:
        remove(folder)
        fresh.rename(folder)


def read_about(folder: AnyPath) -> dict[str, Any]:
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


def load_fit(folder: AnyPath) -> Any:
    """The arrays of a fit, in the structure that `save_fit` was given.

    Raises:
        UserError: they are missing, broken or cut off.
    """
    import orbax.checkpoint as ocp

    broken = UserError(
        f"--fit: the arrays in {folder / 'arrays'} are missing, broken or cut off;"
        " fit the picture again"
    )
    # Looked at before Orbax does: its readers go on complaining after the error.
    about = read_about(folder)
    if _digests(folder / "arrays") != about.get("files"):
        raise broken
    try:
        with ocp.StandardCheckpointer(**_options()) as checkpointer:
            arrays = checkpointer.restore(absolute(folder / "arrays"))
        return trees.unpack(about["structure"], jax.tree.map(jax.numpy.asarray, arrays))
    except Exception as error:  # Orbax raises many kinds for a damaged checkpoint
        raise broken from error


def _options() -> dict[str, Any]:
    return {"multiprocessing_options": own_process()} if jax.process_count() > 1 else {}


def _digests(folder: AnyPath) -> dict[str, str]:
    """SHA-256 of every file below a folder."""
    found = {}
    if not folder.is_dir():
        return found
    for path in sorted(files_below(folder)):
        with path.open("rb") as file:
            found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                file, "sha256"
            ).hexdigest()
    return found
