"""From the name of a checkpoint to its folder: a folder here, or a Hugging Face repository.

Only what this package reads is fetched, into the cache that all Hugging Face libraries share.
"""

import glob
import os
import re
from collections.abc import Collection
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from imagic_jax.weights.errors import WeightsError
from imagic_jax.weights.hub_files import pickled_folders, wanted_files

_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?", re.ASCII)
_PATIENCE = 15.0  # seconds to wait for the hub's listing before the cache is asked
# A dropped line shows as OSError or as the error of whichever HTTP library huggingface_hub uses.
_UNREACHABLE: tuple[type[Exception], ...] = (OSError, *HfHubHTTPError.__bases__)


def resolve(name: str | Path, parts: Collection[str] | None = None) -> Path:
    """The folder of a checkpoint.

    Whatever of a hub repository is not in the local cache yet is fetched. Without a network, or
    with HF_HUB_OFFLINE=1, the cache alone is asked; files that it lacks are for the loaders to
    name.

    Args:
      name: a folder, which is returned as it is, or a hub id: `owner/name` or
        `owner/name@revision`.
      parts: names of the top folders to fetch (`{"unet", "scheduler"}`); files at the root always
        come along. None for all.

    Raises:
      WeightsError: there is no such folder or repository, it cannot be reached and is not in the
        cache, its licence was not accepted, or it has pickled weights only.
    """
    path = Path(os.path.expanduser(name))  # pathlib's raises for an unknown user
    if str(name) and path.is_dir():
        return path
    if path.is_file():
        raise WeightsError(f"{name} is a file; give a folder in the diffusers layout (unet/, ...)")
    repository, revision = _split(str(name))
    try:
        return _fetch(repository, revision, parts)
    except HFValidationError as error:
        raise WeightsError(f"{repository!r} is not a well-formed hub id: {error}") from error
    except GatedRepoError as error:
        raise WeightsError(
            f"{repository} is gated: accept its licence on https://huggingface.co/{repository}, "
            "then log in here with `hf auth login` or set HF_TOKEN"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(
            f"{str(name)!r} is neither a folder here nor a repository that you can see on "
            "https://huggingface.co; if it is private, log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(
            f"{repository} has no revision {revision or 'main'!r}: "
            f"see https://huggingface.co/{repository}/tree/main for its branches and tags"
        ) from error


def _split(name: str) -> tuple[str, str | None]:
    """(repository, revision or None) of a hub id."""
    match = _ID.fullmatch(name)
    if match is None:
        raise WeightsError(
            f"{name!r} is neither a folder here nor a hub id (owner/name or owner/name@revision)"
        )
    return match.group(1), match.group(2)


def _fetch(repository: str, revision: str | None, parts: Collection[str] | None) -> Path:
    """The up-to-date snapshot of a repository, or the cached one where the hub does not answer."""
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=_PATIENCE)
    except RevisionNotFoundError:
        raise
    except _UNREACHABLE as error:
        # Also for repositories that were removed or closed since: what was fetched still works.
        snapshot = _cached(repository, revision)
        if snapshot is not None:
            return snapshot
        if isinstance(error, RepositoryNotFoundError):
            raise
        raise WeightsError(_out_of_reach(repository, revision, error)) from error
    listing = [file.rfilename for file in info.siblings or ()]
    _refuse_pickles(repository, listing, parts)
    patterns = [glob.escape(file) for file in wanted_files(listing, parts)]
    if not patterns:
        raise WeightsError(
            f"https://huggingface.co/{repository} holds no model in the diffusers layout"
        )
    try:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=patterns))
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise
    except _UNREACHABLE as error:
        raise WeightsError(
            f"{repository} could not be fetched as a whole ({_reason(error)}); "
            "what is there is kept: run the same again to go on"
        ) from error


def _cached(repository: str, revision: str | None) -> Path | None:
    """The snapshot in the cache, if there is one; perhaps only a part of it.

    It never has all files of the repository, so none in particular is asked for.
    """
    try:
        return Path(
            snapshot_download(
                repository, revision=revision, local_files_only=True, allow_patterns=[]
            )
        )
    except LocalEntryNotFoundError:
        return None


def _reason(error: BaseException) -> str:
    """What went wrong on the way to the hub, on one line."""
    if isinstance(error, OfflineModeIsEnabled):
        return "offline: HF_HUB_OFFLINE is set"
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _out_of_reach(repository: str, revision: str | None, error: BaseException) -> str:
    at = f"@{revision}" if revision else ""
    option = f" --revision {revision}" if revision else ""
    return (
        f"'{repository}{at}' is neither a folder here nor in the hub's cache, and the hub is out "
        f"of reach ({_reason(error)}): fetch it once with `hf download {repository}{option}` "
        "where there is a network and copy the cache, or give a folder"
    )


def _refuse_pickles(repository: str, listing: list[str], parts: Collection[str] | None) -> None:
    """Raises WeightsError where a part that is needed is there as pickles alone."""
    folders = pickled_folders(listing, parts)
    if not folders:
        return
    where = "" if folders == ["."] else f" in {', '.join(folders)}"
    raise WeightsError(
        f"{repository} has only pickled weights{where}, which are not opened because they can run "
        'code. Convert them where you trust them: python -c "from diffusers import '
        f"DiffusionPipeline as P; P.from_pretrained('{repository}', use_safetensors=False)"
        ".save_pretrained('FOLDER')\", and give that folder"
    )
