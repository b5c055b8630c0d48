"""From trained states to the folders of a CLIP pair and of a Stable Diffusion pipeline."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.training.export import update_card, write_json
from imagic_jax.typing import Params
from imagic_jax.weights import load_part, save_part

Config = Mapping[str, Any]

#: What the folder of a Stable Diffusion pipeline says that it holds.
MODEL_INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}

#: transformers would compute in the dtype of the file, diffusers computes in float32.
_OPENED_AS = {"dtype": "float32"}


def export_clip(model: Path, config: Config, params: Params, training: Mapping[str, Any]) -> None:
    """Writes a CLIP pair as transformers does; arguments as in `export.export_text`."""
    save_part(model, {**config["clip"], **_OPENED_AS}, params, dtype="float16")
    size = config["clip"]["vision_config"]["image_size"]
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": size},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],  # pictures in [-1, 1]
        "image_std": [0.5, 0.5, 0.5],
    }
    write_json(model / "preprocessor_config.json", processor)
    write_json(model / "training.json", {"name": config["model"], **training})


def export_text_tower(clip: Path, model: Path, config: Config) -> None:
    """Writes the text tower of the pair in `clip` into the latent model's folder `model`."""
    _, params = load_part(clip)
    raw = json.loads((clip / "config.json").read_text())["text_config"]
    raw |= {"architectures": ["CLIPTextModel"], "model_type": "clip_text_model", **_OPENED_AS}
    tower = {"text_model": params["text_model"]}
    save_part(model / "text_encoder", raw, tower, dtype="float16")
    row = {
        "encoder": "text_encoder",
        "tokenizer": "tokenizer",
        "closed_vocabulary": True,
        "training": json.loads((clip / "training.json").read_text()),
    }
    update_card(model, config, text=row)


def export_vae(
    model: Path,
    config: Config,
    params: Params,
    training: Mapping[str, Any],
    scaling_factor: float,
) -> None:
    """Writes the autoencoder; `scaling_factor` makes its latents' deviation 1."""
    raw = {**config["vae"], "scaling_factor": scaling_factor}
    save_part(model / "vae", raw, params, dtype="float16")
    update_card(model, config, vae={"training": dict(training)})


def export_latent(model: Path, config: Config, params: Params, training: Mapping[str, Any]) -> None:
    """Writes the UNet of a latent stage, its schedule and the folder's index."""
    save_part(model / "unet", dict(config["unet"]), params, dtype="float16")
    schedule = Schedule.from_config(config["scheduler"]).to_config("DDIMScheduler")
    schedule.pop("variance_type")  # which diffusers' DDIM does not know
    write_json(model / "scheduler" / "scheduler_config.json", schedule)
    write_json(model / "model_index.json", MODEL_INDEX)
    row = {**config["stage"], "folder": ".", "training": dict(training)}
    update_card(model, config, stage=row)
