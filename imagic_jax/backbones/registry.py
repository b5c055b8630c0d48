"""From a model's name, folder or hub id to a `Cascade` and its parameters.

A model is what PyTorch diffusers writes (`model_index.json` and a folder per part): Stable
Diffusion 1, 2 and XL alone, or a cascade of DeepFloyd IF's stages and the x4 upscaler, named in
order ("A,B,C"), or a folder with a `cascade.json` that names its stages. `open_model` reads configs
only; weights are read when they are asked for, so that texts can be encoded and the text encoder
dropped before anything else is in memory.
"""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from imagic_jax.backbones import imagen, stable_diffusion
from imagic_jax.backbones.contracts import Cascade
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.backbones.text import CascadeText, CLIPText, SDXLText, T5Text, TextTower
from imagic_jax.errors import UserError
from imagic_jax.models import CLIPTextModel, T5Encoder
from imagic_jax.typing import DType, Params
from imagic_jax.weights import hub, load_part
from imagic_jax.weights.modules import build_part, part_shapes, random_part, read_json
from imagic_jax.weights.pretrained_tokenizer import load_tokenizer
from imagic_jax.weights.tokenizer import HashTokenizer

MODELS = Path(__file__).parent.parent / "_models"
FORMAT = 1
NAMES = ("base", "sr1", "sr2")
_PEEK = 1 << 20

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
_PARTS = {
    "sd": ("unet", "vae", "text_encoder", "tokenizer", "scheduler"),
    "sdxl": (
        "unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler",
    ),
    "x4": ("unet", "vae", "text_encoder", "tokenizer", "scheduler", "low_res_scheduler"),
    "if": ("unet", "text_encoder", "tokenizer", "scheduler"),
    "if_sr": ("unet", "scheduler", "image_noising_scheduler"),
}  # fmt: skip


class Loaded(NamedTuple):
    """A cascade with its parameters and what its folder says about itself."""

    cascade: Cascade
    params: Params  # {"text": (one tree per tower), "stages": (one tree per stage)}
    card: dict[str, Any]  # cascade.json, or as much of one as other folders tell
    opened: "Opened"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A model whose weights are still on disk.

    Attributes:
        cascade: its structure.
        card: see `Loaded`.
        sources: the parameters' tree with the folder of each part in place of its parameters.
        param_dtype: dtype of the stages' parameters.
        text_dtype: dtype of the text towers' parameters.
        random: draw weights instead of reading them (for timing).
    """

    cascade: Cascade
    card: dict[str, Any]
    sources: dict[str, Any]
    param_dtype: DType = jnp.float32
    text_dtype: DType = jnp.float32
    random: bool = False

    def load_text(self) -> Any:
        """The text towers' parameters."""
        return jax.tree.map(lambda f: self._load(f, self.text_dtype), self.sources["text"])

    def load_stages(self) -> Any:
        """The stages' parameters."""
        return jax.tree.map(lambda f: self._load(f, self.param_dtype), self.sources["stages"])

    def load(self) -> Loaded:
        """Everything."""
        params = {"text": self.load_text(), "stages": self.load_stages()}
        return Loaded(self.cascade, params, self.card, self)

    def stage_shapes(self) -> Any:
        """`load_stages` as shapes, without reading weights."""
        return jax.tree.map(lambda f: part_shapes(f, self.param_dtype), self.sources["stages"])

    def text_shapes(self) -> Any:
        """`load_text` as shapes."""
        return jax.tree.map(lambda f: part_shapes(f, self.text_dtype), self.sources["text"])

    def _load(self, folder: Path, dtype: DType) -> Params:
        if self.random:
            return random_part(folder, dtype)
        return load_part(folder, param_dtype=dtype)[1]

    def fingerprint(self) -> str:
        """A short hash of the weights: names, sizes, first and last MiB of every file.

        Reading a whole 8 GB checkpoint for every edit would cost more than it tells.
        """
        if self.random:
            return "random weights"
        digest = hashlib.sha256()
        for folder in dict.fromkeys(jax.tree.leaves(self.sources)):
            for path in sorted(folder.glob("*.safetensors")):
                size = path.stat().st_size
                digest.update(f"{folder.name}/{path.name}:{size}\n".encode())
                with path.open("rb") as file:
                    digest.update(file.read(_PEEK))
                    file.seek(max(size - _PEEK, 0))
                    digest.update(file.read(_PEEK))
        return digest.hexdigest()[:16]


def built_in() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(p.parent.name for p in MODELS.glob("*/cascade.json"))


def load(model: str | Path) -> Loaded:
    """`open_model(model).load()`."""
    return open_model(model).load()


def open_model(
    model: str | Path,
    size: int | None = None,
    *,
    dtype: DType = jnp.float32,
    param_dtype: DType = jnp.float32,
    text_dtype: DType = jnp.float32,
    random: bool = False,
) -> Opened:
    """Reads a model's configs.

    Args:
        model: a built-in name, a folder, a hub id, or several of the last two joined by commas,
            small to large.
        size: pixels per side to work at, of a latent model alone; None for its own.
        dtype: compute dtype.
        param_dtype, text_dtype: dtypes of the parameters.
        random: weights (and tokenizers) need not be there and are made up.

    Raises:
        UserError: no such model, of a family that is not supported, or not a cascade in order.
        weights.WeightsError: a part is missing or broken.
        models.UnsupportedConfig: a part asks for something that is not implemented.
    """
    reader = _Reader(size, dtype, random)
    name = str(model)
    folder = MODELS / name if "/" not in name and (MODELS / name).is_dir() else None
    if folder is None and "," not in name:
        folder = _find(name)
    if folder is not None and (folder / "cascade.json").is_file():
        card = _read_card(folder)
        rows = card["stages"]
        homes = [folder / r["folder"] if "folder" in r else _find(r["id"]) for r in rows]
    else:
        homes = [folder] if folder else [_find(n.strip()) for n in name.split(",") if n.strip()]
        if not 1 <= len(homes) <= len(NAMES):
            raise UserError(f"--model: {name!r} names {len(homes)} stages; 1 to 3 make a cascade")
        rows = [{"name": n} for n, _ in zip(NAMES, homes, strict=False)]
        card = {"name": ",".join(h.name for h in homes)}
    for home, row in zip(homes, rows, strict=True):
        reader.add(home, row, card)
    cascade, sources = reader.result(card["name"])
    if size not in (None, cascade.size) and reader.families[0] == "if":
        raise UserError(
            f"--size={size}: the model {cascade.name} only works at {cascade.size} pixels"
        )
    return Opened(
        cascade=cascade,
        card={**card, "family": reader.families[0]},
        sources=sources,
        param_dtype=param_dtype,
        text_dtype=text_dtype,
        random=random,
    )


class _Reader:
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
            order = "first" if self._stages else "behind another"
            raise UserError(
                f"--model: {folder} is a {family} model and cannot come {order}; name the stages"
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
        self._stage_sources.append({part: folder / part for part in ("unet", *latent)})
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


def family_of(folder: Path) -> str:
    """The kind of a model folder, a key of `FAMILIES`' values.

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


def _find(name: str) -> Path:
    """The local folder of one name: a built-in model, a folder, or a hub id's snapshot."""
    here = MODELS / name
    if "/" not in name and (here / "cascade.json").is_file():
        return here
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if "/" not in name:
        known = ", ".join(built_in()) or "none is installed"
        raise UserError(
            f"there is no model {name!r}: give a folder, a hub id (owner/name), or a built-in name"
            f" ({known})"
        )
    index = hub.resolve(name, ())
    return hub.resolve(name, _PARTS[family_of(index)])


def _read_card(folder: Path) -> dict[str, Any]:
    card = read_json(folder / "cascade.json")
    if card.get("format") != FORMAT:
        raise UserError(
            f"{folder / 'cascade.json'} has format {card.get('format')!r}; this version reads"
            f" format {FORMAT}"
        )
    return card


def nearest_size(opened: Opened, size: int) -> int:
    """The working size nearest to `size` that every network of a model can halve.

    Pixel models have one size; theirs is returned as it was asked for, and refused when opened.
    """
    stage = opened.cascade.stages[0]
    if opened.card["family"] == "if" or not isinstance(stage, UNetStage):
        return size
    multiple = stable_diffusion.size_multiple(stage)
    return max(multiple, round(size / multiple) * multiple)


def peek(model: str | Path) -> dict[str, Any]:
    """What a model says about itself, "family" included, before anything large is fetched.

    Raises:
        UserError: there is no such model.
    """
    first = str(model).split(",")[0].strip()
    local = MODELS / first if (MODELS / first).is_dir() else Path(first).expanduser()
    if not local.is_dir():
        local = hub.resolve(first, ()) if "/" in first else _find(first)
    if (local / "cascade.json").is_file():
        card = _read_card(local)
        row = card["stages"][0]
        home = local / row["folder"] if "folder" in row else hub.resolve(row["id"], ())
        return {**card, "family": family_of(home)}
    return {"name": local.name, "family": family_of(local)}
