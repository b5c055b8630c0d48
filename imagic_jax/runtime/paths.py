"""Folders on this machine or in a bucket, by one interface.

A plain path is a `pathlib.Path`. One with a scheme (gs://bucket/folder) is an `etils.epath.Path`,
which needs fsspec's package for that store (gcsfs for gs://). Buckets know no rename in one step,
but a file appears there only when it is whole.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from etils import epath

from imagic_jax.errors import UserError

AnyPath = Path | epath.Path


def to_path(text: str) -> Any:
    """The path that a flag names.

    Raises:
        UserError: its scheme is not known, or the package for it is missing.
    """
    if "://" not in text:
        return Path(text)
    try:
        path = epath.Path(text)
        path.exists()
    except ImportError as error:
        raise UserError(
            f"{text} needs a package for such addresses ({error}); for gs:// pip install gcsfs"
        ) from error
    except Exception as error:  # of each store's own kinds: no such scheme, no right, no network
        raise UserError(f"{text} cannot be reached ({error})") from error
    return path


def is_remote(path: AnyPath) -> bool:
    """Whether it lies in a bucket."""
    return "://" in os.fspath(path)


def remove(folder: AnyPath) -> None:
    """Removes a folder with all that is in it, if it is there."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
    elif folder.exists():
        epath.Path(folder).rmtree()


def files_below(folder: AnyPath) -> Iterator[Any]:
    """Every file below a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            yield from files_below(path)
        else:
            yield path


def write_bytes(path: AnyPath, data: bytes) -> None:
    """Writes a file in one step: it is there as a whole or not at all."""
    if is_remote(path):
        path.write_bytes(data)
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(data)
    temporary.replace(path)
