"""Output folders: one job each, continued if it is the same job, refused if it is another."""

import io
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from imagic_jax.errors import UserError
from imagic_jax.runtime.paths import AnyPath, is_remote, remove, write_bytes

#: What an edit writes into its folder; --overwrite removes these and nothing else.
_OWN = (
    "job.json",
    "result.json",
    "index.html",
    "strip.png",
    "input.png",
    "mask.png",
    "fit",
    "fit.new",
    "checkpoints",
)
_OWN_PATTERNS = ("edited_*.png", "pasted_*.png")


def default_folder(stem: str, text: str, method: str = "imagic") -> Path:
    """./imagic_out/<picture>-<first words of the text>, and the method where it is not Imagic."""
    return Path("imagic_out") / slug(stem, text, method)


def slug(stem: str, text: str, method: str = "imagic") -> str:
    """A folder's name: see `default_folder`."""
    words = re.findall(r"[\w]+", text.lower())
    name = "-".join([stem, *words])[:72].strip("-.") or "edit"
    return name if method == "imagic" else f"{name}-{method}"


def open_job(folder: AnyPath, job: Mapping[str, Any], overwrite: bool) -> bool:
    """Makes `folder` the place of `job`; True if it already was (to be continued).

    Args:
        folder: where to write.
        job: everything that decides the fit; JSON values.
        overwrite: throw away another job's files in the same folder.

    Raises:
        UserError: it cannot be written, belongs to another job, or holds foreign files.
    """
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "job.json"
    if overwrite:
        clear(folder)
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = None
        if before == dict(job):
            return True
        what = ", ".join(differences(before, job)) if isinstance(before, dict) else "job.json"
        raise UserError(
            f"--out: {folder} holds another job (different: {what}); choose another folder or"
            " add --overwrite"
        )
    # Hidden files do not count: .DS_Store, or what a killed run was about to rename.
    if any(not p.name.startswith(".") for p in folder.iterdir()) and not overwrite:
        raise UserError(
            f"--out: {folder} is not empty and no job of this program; choose another folder or"
            " add --overwrite (which leaves files that are not its own)"
        )
    write_text(path, json.dumps(dict(job), indent=2) + "\n")
    return False


def same_run(path: AnyPath, about: Mapping[str, Any]) -> None:
    """One set of settings per folder, so that resumed results belong together.

    Args:
        path: the file that says which, written the first time.
        about: everything that decides the results; JSON values.

    Raises:
        UserError: the folder holds results of other settings.
    """
    if path.is_file():
        try:
            before = json.loads(path.read_text())
        except ValueError:
            before = None
        if before != dict(about):
            what = differences(before, about) if isinstance(before, dict) else [path.name]
            raise UserError(
                f"--out: {path.parent} holds results of other settings (different:"
                f" {', '.join(what)}); choose another folder"
            )
    write_text(path, json.dumps(dict(about), indent=2) + "\n")


def check_writable(folder: AnyPath, flag: str = "--out") -> None:
    """Writes a probe where `folder` is or will be made; leaves nothing. `flag` named it.

    Raises:
        UserError: it cannot be written.
    """
    if is_remote(folder):
        _check_bucket(folder, flag)
        return
    there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise UserError(f"{flag}: {folder} cannot be a folder, because {there} is a file")
    try:
        probe = there / f".probe-{uuid.uuid4().hex}"
        probe.write_bytes(b"0" * 4096)
        probe.unlink()
    except OSError as error:
        raise UserError(f"{flag}: {folder} cannot be written ({error.strerror})") from error


def _check_bucket(folder: AnyPath, flag: str) -> None:
    probe = folder / f".probe-{uuid.uuid4().hex}"
    try:
        probe.write_bytes(b"0")
        probe.unlink()
    except Exception as error:  # of each store's own kinds
        raise UserError(f"{flag}: {folder} cannot be written ({error})") from error


def clear(folder: AnyPath) -> None:
    """Removes what an edit wrote, and nothing else."""
    for name in _OWN:
        path = folder / name
        if path.is_dir() and not (isinstance(path, Path) and path.is_symlink()):
            remove(path)
        else:
            path.unlink(missing_ok=True)
    for pattern in _OWN_PATTERNS:
        for path in folder.glob(pattern):
            path.unlink()


def differences(a: Mapping[str, Any], b: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Names of the entries in which two nested mappings differ, e.g. "sampling.base.steps"."""
    found = []
    for key in sorted({*a, *b}):
        x, y = a.get(key), b.get(key)
        if isinstance(x, dict) and isinstance(y, dict):
            found += differences(x, y, f"{prefix}{key}.")
        elif x != y:
            found.append(f"{prefix}{key}")
    return found


def write_text(path: AnyPath, text: str) -> None:
    """Writes a file in one step: it is there as a whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: AnyPath, document: Any) -> None:
    """Writes a JSON file in one step, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(document, indent=2) + "\n")


def save_picture(picture: Any, path: AnyPath) -> None:
    """Saves a Pillow picture as PNG in one step."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    write_bytes(path, buffer.getvalue())


_DECIDING = ("imagic-jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def versions(names: Sequence[str] = _DECIDING) -> dict[str, str]:
    """Versions of packages, of those that decide the numbers where none are named."""
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def device() -> str:
    """The first device, e.g. "1 x cpu (cpu)" or "4 x TPU v4 (tpu)"."""
    devices = jax.devices()
    return f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})"
