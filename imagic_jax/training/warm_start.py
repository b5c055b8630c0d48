"""Going on from a model that was trained before, in place of fresh parameters.

The new model's folder starts as a copy of the old one; the stage that is trained starts from the
old UNet, averaged weights as they are kept in the folder. The optimizer starts anew.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from imagic_jax.backbones import registry
from imagic_jax.errors import UserError
from imagic_jax.models import UNet2DCondition, UNetConfig
from imagic_jax.typing import Params
from imagic_jax.weights import load_part

Config = Mapping[str, Any]


class Start(NamedTuple):
    """Where a run starts."""

    folder: Path  # of the model
    unet: Params
    training: dict[str, Any]  # how it was trained, as its `cascade.json` says

    @property
    def steps(self) -> int:
        """How many steps it was trained, those of what it was itself started from included."""
        row, steps = self.training, 0
        while row:
            steps, row = steps + int(row.get("steps", 0)), row.get("started_from", {})
        return steps

    def params(self) -> dict[str, Any]:
        """What replaces fresh parameters and their average in a trainer's state."""
        return {"params": {"unet": self.unet}, "ema": {"unet": jax.tree.map(jnp.copy, self.unet)}}


def open_start(name: str, config: Config, model: Path) -> Start:
    """The stage of a trained model that a training config can go on from.

    Args:
        name: a built-in model, or a model's folder.
        config: see configs/train/; of a diffusion stage.
        model: the folder of the model that is made.

    Raises:
        UserError: there is no such model or stage, its UNet is built otherwise, or it lies where
            the new model is to be written: a run that goes on needs it as it is.
    """
    if "unet" not in config:
        raise UserError(
            "--start_from goes on with the UNet of a diffusion stage;"
            f" {config['name']} trains none (leave --start_from away)"
        )
    folder = registry.find_folder(name)
    if model.exists() and model.samefile(folder):
        raise UserError(f"--start_from and --model are both {model}; give --model another folder")
    stage = config["stage"]["name"]
    try:
        rows = {row["name"]: row for row in registry.read_card(folder)["stages"]}
        home = folder / rows[stage]["folder"]
    except (KeyError, TypeError) as error:
        raise UserError(
            f"--start_from={name}: {folder / 'cascade.json'} tells of no stage {stage!r}"
        ) from error
    unet, params = load_part(home / "unet")
    if not isinstance(unet, UNet2DCondition):
        raise UserError(f"--start_from={name}: {home / 'unet'} is no UNet")
    _check_built_alike(name, unet.config, UNetConfig.from_dict(config["unet"]))
    return Start(folder, params, rows[stage].get("training", {}))


def copy_model(start: Start, model: Path) -> None:
    """Makes the new model's folder a copy of the old one's, where it does not exist yet."""
    if not model.exists():
        part = model.with_name(f"{model.name}.part")  # a copy that was cut off is none
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(start.folder, part)
        part.rename(model)


def _check_built_alike(name: str, there: UNetConfig, here: UNetConfig) -> None:
    fields = [f for f in vars(here) if getattr(here, f) != getattr(there, f)]
    if fields:
        told = ", ".join(f"{f} {getattr(there, f)} there, {getattr(here, f)} here" for f in fields)
        raise UserError(f"--start_from={name}: its UNet is not config.unet's: {told}")
