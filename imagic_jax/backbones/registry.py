"""From a model's name or folder to a `Cascade` and its parameters.

A cascade on disk is `cascade.json` beside its stage folders; each stage folder is what diffusers
writes (unet/, scheduler/, ...), so PyTorch opens the same files.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.backbones.imagen import LowRes, PixelStage
from imagic_jax.backbones.text import T5Text
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.errors import UserError
from imagic_jax.models import T5Encoder, UNet2DCondition
from imagic_jax.typing import Params
from imagic_jax.weights import load_part
from imagic_jax.weights.tokenizer import Tokenizer

MODELS = Path(__file__).parent.parent / "_models"
FORMAT = 1
_PEEK = 1 << 20


class Loaded(NamedTuple):
    """A cascade with its parameters and what its folder says about itself."""

    cascade: Cascade
    params: Params  # {"text": ..., "stages": (...)}
    card: dict[str, Any]  # cascade.json
    folder: Path


def built_in() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in MODELS.glob("*/cascade.json"))


def find(model: str | Path) -> Path:
    """The folder of a built-in name or a path.

    Raises:
        UserError: there is no such model.
    """
    here = MODELS / str(model)
    if "/" not in str(model) and (here / "cascade.json").is_file():
        return here
    folder = Path(model).expanduser()
    if (folder / "cascade.json").is_file():
        return folder
    if folder.is_dir():
        raise UserError(f"the model folder {folder} has no cascade.json that names its stages")
    names = ", ".join(built_in()) or "none is installed"
    raise UserError(
        f"there is no model {str(model)!r}: give a folder, or a built-in name ({names})"
    )


def load(model: str | Path) -> Loaded:
    """Loads a whole cascade, float32.

    Raises:
        UserError: no such model, or its cascade.json is of another format.
        weights.WeightsError: a tensor is missing, unused or wrongly shaped.
    """
    folder = find(model)
    card = _read_json(folder / "cascade.json")
    if card.get("format") != FORMAT:
        raise UserError(
            f"{folder / 'cascade.json'} has format {card.get('format')!r}; this version reads"
            f" format {FORMAT}"
        )
    stages, stage_params = [], []
    for entry in card["stages"]:
        stage, params = load_stage(folder, entry)
        stages.append(stage)
        stage_params.append(params)
    encoder, text_params = load_part(folder / card["text"]["encoder"])
    if not isinstance(encoder, T5Encoder):
        raise UserError(f"{folder / card['text']['encoder']} is no T5 encoder")
    text = T5Text(
        encoder,
        Tokenizer.load(folder / card["text"]["tokenizer"]),
        len(stages),
        bool(card["text"].get("closed_vocabulary")),
    )
    tuned = tuple(bool(e.get("tune")) for e in card["stages"])
    cascade = Cascade(card["name"], text, tuple(stages), tuned)
    return Loaded(cascade, {"text": text_params, "stages": tuple(stage_params)}, card, folder)


def load_stage(folder: Path, entry: dict[str, Any]) -> tuple[PixelStage, Params]:
    """One stage of a cascade folder; `entry` is its row in cascade.json."""
    home = folder / entry["folder"]
    unet, params = load_part(home / "unet")
    if not isinstance(unet, UNet2DCondition):
        raise UserError(f"{home / 'unet'} is no UNet2DConditionModel")
    schedule = Schedule.from_config(_read_json(home / "scheduler" / "scheduler_config.json"))
    low_res = None
    if entry.get("low_res"):
        noising = _read_json(home / "image_noising_scheduler" / "scheduler_config.json")
        low_res = LowRes(
            size=entry["low_res"]["size"],
            schedule=Schedule.from_config(noising),
            sample_level=entry["low_res"]["sample_level"],
            train_level=entry["low_res"]["train_level"],
        )
    return PixelStage(entry["name"], entry["size"], unet, schedule, low_res), params


def fingerprint(folder: Path) -> str:
    """A short hash of a model's weights: names, sizes and the first and last MiB of every file.

    Reading a whole 8 GB checkpoint for every edit would cost more than it tells.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}:{size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(_PEEK))
            file.seek(max(size - _PEEK, 0))
            digest.update(file.read(_PEEK))
    return digest.hexdigest()[:16]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"the model folder lacks {path}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as JSON ({error})") from error
