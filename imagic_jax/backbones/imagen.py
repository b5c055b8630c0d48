"""Imagen-style pixel cascades in DeepFloyd IF's folder layout: the parts of one stage.

A base is an `IFPipeline` folder, a super-resolution stage an `IFSuperResolutionPipeline` folder.
Ours may move pixels to channels (`patch_size` in the UNet's config).
"""

from pathlib import Path

from imagic_jax.backbones.codecs import Pixels
from imagic_jax.backbones.stages import LowRes, UNetStage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.errors import UserError
from imagic_jax.models import UNet2DCondition
from imagic_jax.typing import DType
from imagic_jax.weights.modules import build_part, read_json

#: IF-II as DeepFloyd samples and trains it: augmentation level 250 of 1000, any level in training.
IF_LEVELS = {"sample_level": 250, "train_level": 999}


def open_unet(folder: Path, dtype: DType) -> UNet2DCondition:
    """The UNet of a stage's folder, without weights.

    Raises:
        UserError: the folder holds another network.
    """
    unet = build_part(folder, dtype)
    if not isinstance(unet, UNet2DCondition):
        raise UserError(f"{folder} is no UNet2DConditionModel")
    return unet


def sample_size(unet: UNet2DCondition) -> int:
    """Cells per side that a UNet was trained at.

    Raises:
        UserError: its config does not say, or it is not square.
    """
    said = unet.config.sample_size
    if isinstance(said, tuple) and len(set(said)) == 1:
        said = said[0]
    if not isinstance(said, int):
        raise UserError(f"the UNet's config has sample_size={said!r}; a whole number is needed")
    return said


def open_stage(
    folder: Path, name: str, low_res_size: int | None, levels: dict[str, int], dtype: DType
) -> UNetStage:
    """One pixel stage.

    Args:
        folder: holds unet/ and scheduler/, and image_noising_scheduler/ for super-resolution.
        name: how the cascade calls it.
        low_res_size: pixels per side of the picture before it; None for a base.
        levels: `sample_level` and `train_level` of the augmentation.
        dtype: compute dtype.
    """
    unet = open_unet(folder / "unet", dtype)
    schedule = Schedule.from_config(read_json(folder / "scheduler" / "scheduler_config.json"))
    codec = Pixels(unet.config.patch_size)
    size = sample_size(unet) * codec.factor
    low_res = None
    if low_res_size is not None:
        noising = read_json(folder / "image_noising_scheduler" / "scheduler_config.json")
        low_res = LowRes(low_res_size, Schedule.from_config(noising), **levels)
    return UNetStage(name, size, unet, schedule, codec, low_res)
