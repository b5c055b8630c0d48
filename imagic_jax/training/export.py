"""From a trained state to a model folder in the diffusers / DeepFloyd layout."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imagic_jax.backbones.registry import FORMAT
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.typing import Params
from imagic_jax.weights import save_part

NOISING = {"_class_name": "DDPMScheduler", "beta_schedule": "squaredcos_cap_v2"}


def export_text(
    model: Path, config: Mapping[str, Any], params: Params, training: Mapping[str, Any]
) -> None:
    """Writes the trained text encoder into the cascade folder `model`.

    Args:
        model: the cascade's folder, made if missing; its stages are kept.
        config: the training config (see configs/train/).
        params: averaged weights.
        training: where they come from (commit, seed, steps, hours).
    """
    base = config["base"]
    save_part(model / base / "text_encoder", dict(config["text"]), params, dtype="float16")
    row = {
        "encoder": f"{base}/text_encoder",
        "tokenizer": f"{base}/tokenizer",
        "closed_vocabulary": True,
        "training": dict(training),
    }
    update_card(model, config, text=row)


def export_stage(
    model: Path, config: Mapping[str, Any], params: Params, training: Mapping[str, Any]
) -> None:
    """Writes one trained stage into the cascade folder `model`; arguments as in `export_text`."""
    stage, folder = config["stage"], model / config["stage"]["name"]
    save_part(folder / "unet", dict(config["unet"]), params, dtype="float16")
    schedule = Schedule.from_config(config["scheduler"])
    write_json(folder / "scheduler" / "scheduler_config.json", schedule.to_config("DDPMScheduler"))
    index: dict[str, Any] = {
        "_class_name": "IFPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "scheduler": ["diffusers", "DDPMScheduler"],
    }
    if stage["name"] == config["base"]:
        index["text_encoder"] = ["transformers", "T5EncoderModel"]
        index["tokenizer"] = ["transformers", "PreTrainedTokenizerFast"]
    if "low_res" in stage:
        index["_class_name"] = "IFSuperResolutionPipeline"
        index["image_noising_scheduler"] = ["diffusers", "DDPMScheduler"]
        write_json(folder / "image_noising_scheduler" / "scheduler_config.json", NOISING)
    write_json(folder / "model_index.json", index)
    row = {**stage, "folder": stage["name"], "training": dict(training)}
    update_card(model, config, stage=row)


def update_card(
    model: Path, config: Mapping[str, Any], stage: dict[str, Any] | None = None, **rows: Any
) -> None:
    """Puts a stage's row, or others by name, into cascade.json; small stages come first."""
    path = model / "cascade.json"
    card = json.loads(path.read_text()) if path.is_file() else {}
    stages = card.get("stages", [])
    if stage is not None:
        stages = [*(s for s in stages if s["name"] != stage["name"]), stage]
    card |= {
        "format": FORMAT,
        "name": config["model"],
        "text": card.get("text"),
        **rows,
        "stages": sorted(stages, key=lambda s: s["size"]),
    }
    write_json(path, card)


def commit() -> str:
    """The commit of the source tree, with "+changes" where files differ from it."""
    here = Path(__file__).parent
    try:
        name = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "-uno", "."],
            cwd=here.parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+changes" if changed else "")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file as people read it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")
