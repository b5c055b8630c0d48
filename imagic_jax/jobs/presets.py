"""Presets: the config files that come with the package, found by name from any folder."""

import difflib
import importlib.util
from pathlib import Path
from typing import Any

from imagic_jax.errors import UserError

_PACKAGE = Path(__file__).parent.parent
#: Where presets live: inside the wheel, or at the top of a source checkout.
_PRESET_FOLDERS = (_PACKAGE / "_configs", _PACKAGE.parent / "configs")
_EXAMPLE_FOLDERS = (_PACKAGE / "_examples", _PACKAGE.parent / "examples")


def preset_paths(pattern: str = "*.py") -> dict[str, Path]:
    """The presets that come with the package: {name: file}."""
    found: dict[str, Path] = {}
    for folder in _PRESET_FOLDERS:
        for path in sorted(folder.glob(pattern)):
            if not path.name.startswith("_"):
                name = path.relative_to(folder).with_suffix("").as_posix()
                found.setdefault(name, path)
    return found


def find_preset(name: str, pattern: str = "*.py") -> Path:
    """The file of a preset given by name or as a path.

    Raises:
        UserError: there is none.
    """
    known = preset_paths(pattern)
    if name in known:
        return known[name]
    stem = Path(name).stem
    if Path(name).is_file():
        if not name.endswith(".py"):
            raise UserError(f"--config: {name} is no preset: it must be a Python file")
        return Path(name)
    if name.startswith("configs/") and (shipped := known.get(name[len("configs/") : -len(".py")])):
        return shipped
    close = difflib.get_close_matches(stem, known, 1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UserError(f"--config: there is no preset {name!r}{hint} (known: {', '.join(known)})")


def example(name: str) -> Path:
    """A picture of examples/, wherever the package is installed."""
    for folder in _EXAMPLE_FOLDERS:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f"the example {name} is not installed; give --image")


def architecture(name: str) -> Path:
    """The folder of configs, without weights, of a published model that ships with the package.

    Raises:
        UserError: there is none of that name.
    """
    known: dict[str, Path] = {}
    for folder in _PRESET_FOLDERS:
        for path in sorted(folder.glob("architectures/*/model_index.json")):
            known.setdefault(path.parent.name, path.parent)
    if name not in known:
        raise UserError(
            f"config.architecture: there is no {name!r} (known: {', '.join(sorted(known))})"
        )
    return known[name]


def load_config(path: Path) -> Any:
    """Runs `get_config()` of a preset file.

    Raises:
        UserError: it is no Python file, cannot be run, or has no `get_config`.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise UserError(f"--config: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        return module.get_config()
    except Exception as error:  # whatever a user's own preset does
        raise UserError(f"--config: {path} cannot be run ({error!r})") from error
