"""Opening the model that a preset and the command line name."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from imagic_jax.backbones import registry
from imagic_jax.backbones.contracts import Cascade, Stage
from imagic_jax.backbones.registry import Opened
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.editors.contracts import Method
from imagic_jax.errors import UserError
from imagic_jax.jobs.presets import architecture, preset_paths
from imagic_jax.jobs.settings import choice
from imagic_jax.models.attention_kernels import KERNELS, OF_PLATFORM, Kernel, works
from imagic_jax.typing import DType

RANDOM = "these are RANDOM WEIGHTS: times and memory are real, the pictures are no edit"

#: What numbers may be computed and kept in.
DTYPES: dict[str, DType] = {
    "float32": jnp.float32,
    "bfloat16": jnp.bfloat16,
    "float16": jnp.float16,
}
#: Presets for models that bring none of their own, by family.
_PRESETS = {
    "sd": "sd15",
    "sdxl": "sdxl",
    "if": "deepfloyd_if_m",
    "if_sr": "deepfloyd_if_m",  # no base comes first: refused, with the reason, when opened
    "x4": "deepfloyd_if_m",
}


def open_preset(
    config: Any,
    size: int | None = None,
    random_weights: bool = False,
    platform: str | None = None,
) -> tuple[Opened, list[str]]:
    """Opens a preset's model; its weights are not read yet.

    Args:
        config: a preset (`ConfigDict`): `model`, and if it likes `architecture`, `compute_dtype`,
            `param_dtype`, `text_dtype`, `attention`, `remat`, `scan`.
        size: pixels per side to work at; None for the model's own.
        random_weights: build the architecture with random weights, for timing.
        platform: what "auto" decides for: "cpu", "gpu" or "tpu" (default: this machine's).

    Returns:
        The model, and notes for people about what was changed.

    Raises:
        UserError: no such model, or a dtype that is none.
    """
    notes = []
    model: Any = config.get("model")
    if random_weights:
        name = config.get("architecture")
        if name is None:
            raise UserError("--random_weights: this preset names no config.architecture to build")
        model = ",".join(str(architecture(n)) for n in str(name).split(","))
        notes.append(RANDOM)
    if not model:
        raise UserError("the preset lacks config.model")
    dtypes = {
        "dtype": _compute_dtype(config.get("compute_dtype", "float32"), platform),
        "param_dtype": _dtype(config.get("param_dtype", "float32"), "config.param_dtype"),
        "text_dtype": _dtype(config.get("text_dtype", "float32"), "config.text_dtype"),
    }
    opened = registry.open_model(model, random=random_weights, **dtypes)
    if size is not None and size != opened.cascade.size:
        nearest = registry.nearest_size(opened, size)
        if nearest != size:
            notes.append(
                f"the model cannot work at {size} pixels; the picture is resized to {nearest}"
            )
        opened = registry.open_model(model, nearest, random=random_weights, **dtypes)
    kernel = _kernel(config.get("attention", "auto"), platform)
    remat, scan = (bool(config.get(name, False)) for name in ("remat", "scan"))
    return _with(opened, kernel, remat, scan), notes


def _with(opened: Opened, kernel: Kernel, remat: bool, scan: bool) -> Opened:
    """The same model, its networks computed otherwise."""

    def changed(stage: Stage) -> Stage:
        if not isinstance(stage, UNetStage):
            return stage
        unet = stage.unet.clone(remat=remat, scan=scan)
        return dataclasses.replace(stage, attention=kernel, unet=unet)

    stages = tuple(changed(s) for s in opened.cascade.stages)
    return dataclasses.replace(opened, cascade=opened.cascade._replace(stages=stages))


def _kernel(name: Any, platform: str | None) -> Kernel:
    """What long attentions are computed with; "auto" takes the device's own where it works."""
    if choice(name, "config.attention", ("auto", *KERNELS)) != "auto":
        return name
    kernel = OF_PLATFORM.get(platform or jax.default_backend(), "plain")
    return kernel if platform is not None or works(kernel) else "plain"


def _compute_dtype(name: Any, platform: str | None) -> DType:
    if name == "auto":
        return jnp.float32 if (platform or jax.default_backend()) == "cpu" else jnp.bfloat16
    return _dtype(name, "config.compute_dtype", "auto")


def _dtype(name: Any, where: str, *others: str) -> DType:
    return DTYPES[choice(name, where, (*others, *DTYPES))]


def clip_for(method: Method, given: str | None, model: str) -> Path | None:
    """The folder of the CLIP model that a method uses: `given`, or the one that goes with `model`.

    Raises:
        UserError: the method needs one, and there is none.
    """
    if "clip" not in method.needs | method.takes:
        return None
    if given is not None:
        for folder in (Path(given).expanduser(), registry.MODELS / given):
            if (folder / "config.json").is_file():
                return folder
        raise UserError(f"--clip: {given} is no folder with a CLIPModel")
    own = own_clip(model)
    if own is None and "clip" in method.needs:
        raise UserError(
            f"--method={method.name} needs a CLIP model, and none comes with {model}: name the"
            " folder of one (with both towers and its tokenizer) by --clip=DIR"
        )
    return own


def own_clip(model: str) -> Path | None:
    """The folder of the CLIP model that comes with a model, if one does."""
    own = registry.MODELS / "flatland-clip"
    return own if model.startswith("flatland") and own.is_dir() else None


def clip_name(folder: Path | None) -> str:
    """What finds the same CLIP model again (`clip_for`): a built-in one's name, or its folder."""
    if folder is None:
        return ""
    return folder.name if folder.parent == registry.MODELS else str(folder)


def preset_for(model: str) -> str:
    """The preset for a model given by --model alone: its own, or its family's.

    Raises:
        UserError: there is no such model.
    """
    card = registry.peek(model)
    known = preset_paths()
    own = str(card.get("name", "")).replace("-", "_")
    return own if own in known else _PRESETS[card["family"]]


def without_absent_stages(config: Any, cascade: Cascade) -> None:
    """Takes the rows of stages that this model lacks out of a preset for larger cascades."""
    present = [s.name for s in cascade.stages]
    with config.unlocked():
        for section in (config.tuning, config.sampling):
            for name in registry.NAMES:
                if name in section and name not in present:
                    del section[name]
