"""From the folders of a model's parts to a `Cascade`: which networks, which texts, which sizes.

Configs alone are read here; where each part's weights are is handed on as a tree of folders.
"""

from pathlib import Path
from typing import Any

from imagic_jax.backbones import imagen, priors, stable_diffusion
from imagic_jax.backbones.contracts import Cascade
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.backbones.text import CascadeText, CLIPText, SDXLText, T5Text, TextTower
from imagic_jax.errors import UserError
from imagic_jax.models import CLIPTextModel, T5Encoder
from imagic_jax.typing import DType
from imagic_jax.weights.modules import build_part, read_json
from imagic_jax.weights.pretrained_tokenizer import load_tokenizer
from imagic_jax.weights.tokenizer import HashTokenizer

#: What a `model_index.json` may say -> which kind of model that is.
FAMILIES = {
    "StableDiffusionPipeline": "sd",
    "StableDiffusionImg2ImgPipeline": "sd",
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusionXLImg2ImgPipeline": "sdxl",
    "StableDiffusionUpscalePipeline": "x4",
    "IFPipeline": "if",
    "IFImg2ImgPipeline": "if",
    "IFSuperResolutionPipeline": "if_sr",
    "IFImg2ImgSuperResolutionPipeline": "if_sr",
}
#: The folders of a model that are read, by family.
PARTS = {
    "sd": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sdxl": (
        "unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler",
    ),
    "x4": ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "low_res_scheduler"),
    "if": ("unet", "text_encoder", "tokenizer", "scheduler"),
    "if_sr": ("unet", "scheduler", "image_noising_scheduler"),
}  # fmt: skip


def family_of(folder: Path) -> str:
    """The kind of a model folder, one of the values of `FAMILIES`.

    Raises:
        UserError: it has no model_index.json, or one of an unsupported pipeline.
    """
    if not (folder / "model_index.json").is_file():
        raise UserError(
            f"--model: {folder} has no model_index.json, so it is no model folder of diffusers"
        )
    said = read_json(folder / "model_index.json").get("_class_name")
    if said not in FAMILIES:
        known = ", ".join(n for n in FAMILIES if "Img2Img" not in n)
        raise UserError(f"--model: {folder} is for {said}, which is not supported (known: {known})")
    return FAMILIES[said]


class Assembly:
    """Collects the stages and towers of a cascade, small to large."""

    def __init__(self, size: int | None, dtype: DType, random: bool):
        self._size, self._dtype, self._random = size, dtype, random
        self.families: list[str] = []
        self._stages: list[UNetStage] = []
        self._tuned: list[bool] = []
        self._towers: list[TextTower] = []
        self._of_stage: list[int] = []
        self._stage_sources: list[Any] = []
        self._text_sources: list[Any] = []

    def add(self, folder: Path, row: dict[str, Any], card: dict[str, Any]) -> None:
        """Appends the stage of one folder; `row` is its entry in cascade.json."""
        family = family_of(folder)
        if (family in ("x4", "if_sr")) != bool(self._stages):
            order = "behind another" if self._stages else "first"
            raise UserError(
                f"--model: {folder}, of the family {family}, cannot come {order}; name the stages"
                " small to large: a base, then its super-resolution stages"
            )
        self.families.append(family)
        before = self._stages[-1].size if self._stages else None
        name, low = row["name"], row.get("low_res") or {}
        if family in ("sd", "sdxl"):
            stage = stable_diffusion.open_stage(folder, name, self._size, self._dtype)
        elif family == "x4":
            assert before is not None
            stage = stable_diffusion.open_upscaler(folder, name, before, self._dtype)
        else:
            levels = imagen.IF_LEVELS | {k: v for k, v in low.items() if k != "size"}
            low_size = low.get("size", before)
            stage = imagen.open_stage(folder, name, low_size, levels, self._dtype)
        self._stages.append(stage)
        self._tuned.append(bool(row.get("tune", family != "x4")))
        latent = ("vae",) if family in ("sd", "sdxl", "x4") else ()
        prior = (priors.FOLDER,) if len(self._stages) == 1 and priors.carries_prior(folder) else ()
        self._stage_sources.append({part: folder / part for part in ("unet", *latent, *prior)})
        if family != "if_sr":
            self._add_text(folder, family, bool((card.get("text") or {}).get("closed_vocabulary")))
        self._of_stage.append(len(self._towers) - 1)

    def _add_text(self, folder: Path, family: str, closed: bool) -> None:
        first = folder / "text_encoder"
        module = build_part(first, self._dtype)
        if family == "if":
            if not isinstance(module, T5Encoder):
                raise UserError(f"{first} is no T5 encoder")
            tokenizer = self._tokenizer(folder / "tokenizer", module.config.vocab_size)
            cleaning = "none" if closed else "simple"
            self._towers.append(T5Text(module, tokenizer, closed, cleaning))
            self._text_sources.append(first)
            return
        if not isinstance(module, CLIPTextModel):
            raise UserError(f"{first} is no CLIP text model")
        tokenizer = self._tokenizer(folder / "tokenizer", module.config.vocab_size)
        if family != "sdxl":
            self._towers.append(CLIPText(module, tokenizer, closed))
            self._text_sources.append(first)
            return
        second = folder / "text_encoder_2"
        other = build_part(second, self._dtype)
        if not isinstance(other, CLIPTextModel):
            raise UserError(f"{second} is no CLIP text model")
        tokenizers = tokenizer, self._tokenizer(folder / "tokenizer_2", other.config.vocab_size)
        index = read_json(folder / "model_index.json")
        zero = bool(index.get("force_zeros_for_empty_prompt", True))
        self._towers.append(SDXLText((module, other), tokenizers, zero))
        self._text_sources.append({"text_encoder": first, "text_encoder_2": second})

    def _tokenizer(self, folder: Path, vocabulary: int) -> Any:
        if self._random and not folder.is_dir():
            return HashTokenizer(vocabulary)
        return load_tokenizer(folder)

    def result(self, name: str) -> tuple[Cascade, dict[str, Any]]:
        """The cascade, and the tree of folders."""
        text = CascadeText(tuple(self._towers), tuple(self._of_stage))
        cascade = Cascade(name, text, tuple(self._stages), tuple(self._tuned))
        sources = {"text": tuple(self._text_sources), "stages": tuple(self._stage_sources)}
        return cascade, sources
