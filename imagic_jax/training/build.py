"""From a training config (configs/train/) to its task, its tokenizer, and what stays frozen."""

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from imagic_jax.backbones.codecs import Codec, Latents, Pixels
from imagic_jax.backbones.registry import MODELS
from imagic_jax.backbones.stages import LowRes, UNetStage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.errors import UserError
from imagic_jax.flatland import captions
from imagic_jax.models import (
    AutoencoderKL,
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    T5Config,
    T5Encoder,
    UNet2DCondition,
    UNetConfig,
    VAEConfig,
)
from imagic_jax.training.clip_task import ClipTask
from imagic_jax.training.data import CLASSES, NAMED_SIZES
from imagic_jax.training.export import NOISING
from imagic_jax.training.export_latent import export_text_tower
from imagic_jax.training.tasks import StageTask, Task, TextTask
from imagic_jax.training.vae_task import VaeTask
from imagic_jax.weights import clip_vocabulary, load_part
from imagic_jax.weights.pretrained_tokenizer import load_tokenizer
from imagic_jax.weights.tokenizer import Tokenizer, save_word_level

Config = Mapping[str, Any]
#: A task, and the parameters that it reads and does not change.
Built = tuple[Task, Any]


def build_task(config: Config, model: Path) -> Built:
    """The task of a training config.

    Args:
        config: see configs/train/.
        model: the model's folder; what was trained before is read from there.

    Raises:
        UserError: the batch does not fit, or something must be trained before.
    """
    batch = config["data"]["batch"]
    if batch < 1 or batch % CLASSES:
        raise UserError(
            f"config.data.batch must be a multiple of the {CLASSES} classes, got {batch}"
        )
    return _BUILDERS[config["kind"]](config, model)


def _text(config: Config, model: Path) -> Built:
    del model
    text = T5Encoder(T5Config.from_dict(config["text"]))
    return TextTask(text=text, sizes=NAMED_SIZES, **config["data"]), None


def _stage(config: Config, model: Path) -> Built:
    """A pixel stage."""
    folder = model / config["base"] / "text_encoder"
    if not folder.is_dir():
        raise UserError(f"{folder} is missing: train the text encoder first, or give --model")
    text, params = load_part(folder)
    if not isinstance(text, T5Encoder):
        raise UserError(f"{folder} is no T5 encoder")
    unet = _unet(config)
    stage = _make_stage(config, unet, Pixels(unet.config.patch_size))
    return StageTask(stage=stage, text=text, **config["data"]), {"text": params, "stage": {}}


def _latent(config: Config, model: Path) -> Built:
    """A latent stage, under the text tower of a CLIP pair."""
    if not (model / "vae").is_dir():
        raise UserError(f"{model / 'vae'} is missing: train the autoencoder first, or give --model")
    vae, vae_params = load_part(model / "vae")
    if not isinstance(vae, AutoencoderKL):
        raise UserError(f"{model / 'vae'} is no AutoencoderKL")
    if not (model / "text_encoder").is_dir():
        _take_text(_clip_folder(config, model), model, config)
    text, params = load_part(model / "text_encoder")
    if not isinstance(text, CLIPTextModel):
        raise UserError(f"{model / 'text_encoder'} is no CLIP text model")
    stage = _make_stage(config, _unet(config), Latents(vae, vae.config.scaling_factor))
    task = StageTask(stage=stage, text=text, **config["data"])
    return task, {"text": params, "stage": {"vae": vae_params}}


def _clip(config: Config, model: Path) -> Built:
    del model
    pair = CLIPModel(CLIPConfig.from_dict(config["clip"]))
    words = len(clip_vocabulary.token_ids(captions.vocabulary()))
    if pair.config.text.vocab_size != words:
        raise UserError(f"config.clip.text_config.vocab_size must be {words}, Flatland's tokens")
    return ClipTask(model=pair, sizes=NAMED_SIZES, **config["data"]), None


def _vae(config: Config, model: Path) -> Built:
    del model
    vae = AutoencoderKL(VAEConfig.from_dict(config["vae"]))
    return VaeTask(vae=vae, **config["loss"], **config["data"]), None


_BUILDERS: dict[str, Callable[[Config, Path], Built]] = {
    "text": _text,
    "stage": _stage,
    "latent": _latent,
    "clip": _clip,
    "vae": _vae,
}


def _unet(config: Config) -> UNet2DCondition:
    return UNet2DCondition(UNetConfig.from_dict(config["unet"]))


def _make_stage(config: Config, unet: UNet2DCondition, codec: Codec) -> UNetStage:
    row, low_res = config["stage"], None
    if "low_res" in row:
        low_res = LowRes(schedule=Schedule.from_config(NOISING), **row["low_res"])
    schedule = Schedule.from_config(config["scheduler"])
    return UNetStage(row["name"], row["size"], unet, schedule, codec, low_res)


def _clip_folder(config: Config, model: Path) -> Path:
    """The CLIP pair that a latent model reads: trained beside it, else the one that is shipped."""
    for folder in (model.parent / config["clip"], MODELS / config["clip"]):
        if (folder / "model.safetensors").is_file():
            return folder
    raise UserError(f"{model.parent / config['clip']} is missing: train the CLIP pair first")


def _take_text(clip: Path, model: Path, config: Config) -> None:
    """Copies the text tower and the tokenizer of a CLIP pair into a latent model's folder."""
    (model / "tokenizer").mkdir(parents=True, exist_ok=True)
    for name in clip_vocabulary.FILES:
        shutil.copy(clip / name, model / "tokenizer" / name)
    export_text_tower(clip, model, config)


def open_tokenizer(config: Config, model: Path) -> Tokenizer:
    """The model's tokenizer, made from Flatland's vocabulary where there is none."""
    words, length = captions.vocabulary(), config["max_length"]
    if "base" in config:
        folder = model / config["base"] / "tokenizer"
        if not (folder / "tokenizer.json").is_file():
            save_word_level(folder, words, length)
        return Tokenizer.load(folder)
    folder = model if config["kind"] == "clip" else model / "tokenizer"
    if config["kind"] == "clip" or not (folder / "vocab.json").is_file():
        clip_vocabulary.save_clip_vocabulary(folder, words, length)
    return load_tokenizer(folder)
