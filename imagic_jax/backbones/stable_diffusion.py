"""Stable Diffusion folders (1, 2, 2-v, XL) and the x4 upscaler: the parts of one latent stage."""

from pathlib import Path
from typing import Any

from imagic_jax.backbones.codecs import Latents
from imagic_jax.backbones.imagen import open_unet, sample_size
from imagic_jax.backbones.stages import LowRes, UNetStage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.errors import UserError
from imagic_jax.models import AutoencoderKL, UNet2DCondition
from imagic_jax.typing import DType
from imagic_jax.weights.folder import read_config
from imagic_jax.weights.modules import build_part, read_json

#: The x4 upscaler as diffusers samples it, and the most noise it was trained with.
X4_LEVELS = {"sample_level": 20, "train_level": 350}
#: The earliest x4 folders leave the factor of their latents out.
X4_SCALING = 0.08333


def open_stage(folder: Path, name: str, size: int | None, dtype: DType) -> UNetStage:
    """The latent stage of a `StableDiffusionPipeline` or `StableDiffusionXLPipeline` folder.

    Args:
        folder: holds unet/, vae/ and scheduler/.
        name: how the cascade calls it.
        size: pixels per side to work at; None for the size that the model was trained at.
        dtype: compute dtype.
    """
    unet, codec = open_unet(folder / "unet", dtype), _open_vae(folder / "vae", dtype)
    own = sample_size(unet) * codec.factor
    return UNetStage(name, size or own, unet, _schedule(folder), codec)


def open_upscaler(folder: Path, name: str, low_res_size: int, dtype: DType) -> UNetStage:
    """The stage of a `StableDiffusionUpscalePipeline` behind one of `low_res_size` pixels."""
    unet, codec = open_unet(folder / "unet", dtype), _open_vae(folder / "vae", dtype, X4_SCALING)
    noising = Schedule.from_config(
        read_json(folder / "low_res_scheduler" / "scheduler_config.json")
    )
    low_res = LowRes(low_res_size, noising, **X4_LEVELS)
    size = low_res_size * codec.factor  # low-resolution pixels lie on the latents' grid
    return UNetStage(name, size, unet, _schedule(folder), codec, low_res)


def size_multiple(stage: UNetStage) -> int:
    """Pixels per side must be a multiple of this."""
    unet: UNet2DCondition = stage.unet
    return stage.codec.factor * 2 ** (unet.config.levels - 1)


def _open_vae(folder: Path, dtype: DType, scaling: float | None = None) -> Latents:
    vae = build_part(folder, dtype)
    if not isinstance(vae, AutoencoderKL):
        raise UserError(f"{folder} is no AutoencoderKL")
    said = read_config(folder).get("scaling_factor")
    factor = vae.config.scaling_factor if said is not None or scaling is None else scaling
    return Latents(vae, factor)


def _schedule(folder: Path) -> Schedule:
    """The folder's schedule as DDIM runs it.

    Folders name PNDM or Euler, which never clip x0, so their files do not say that nothing shall
    be clipped; latents reach beyond [-1, 1].
    """
    config: dict[str, Any] = read_json(folder / "scheduler" / "scheduler_config.json")
    return Schedule.from_config({"clip_sample": False, **config})
