"""From a model's name, folder or hub id to a `Cascade` and its parameters.

A model is what PyTorch diffusers writes (`model_index.json` and a folder per part): Stable
Diffusion 1, 2 and XL alone, or a cascade of DeepFloyd IF's stages and the x4 upscaler, named in
order ("A,B,C"), or a folder with a `cascade.json` that names its stages. `open_model` reads configs
only; weights are read when they are asked for, so that texts can be encoded and the text encoder
dropped before anything else is in memory.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.backbones import stable_diffusion
from imagic_jax.backbones.assembly import PARTS, Assembly, family_of
from imagic_jax.backbones.contracts import Cascade, Prior
from imagic_jax.backbones.priors import FOLDER as PRIOR
from imagic_jax.backbones.priors import load_prior, prior_shapes
from imagic_jax.backbones.stages import UNetStage
from imagic_jax.errors import UserError
from imagic_jax.typing import DType, Params
from imagic_jax.weights import hub, load_part
from imagic_jax.weights.folder import Place
from imagic_jax.weights.modules import part_shapes, random_part, read_json

MODELS = Path(__file__).parent.parent / "_models"
FORMAT = 1
NAMES = ("base", "sr1", "sr2")
_PEEK = 1 << 20


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

    def load_stages(self, places: Sequence[Place | None] | None = None) -> Any:
        """The stages' parameters; `places` puts each stage's arrays where they shall be."""
        folders = self.sources["stages"]
        places = places or [None] * len(folders)
        return tuple(
            jax.tree.map(lambda f, p=p: self._load(f, self.param_dtype, p), folder)
            for folder, p in zip(folders, places, strict=True)
        )

    def load(self) -> Loaded:
        """Everything."""
        params = {"text": self.load_text(), "stages": self.load_stages()}
        return Loaded(self.cascade, params, self.card, self)

    def stage_shapes(self) -> Any:
        """`load_stages` as shapes, without reading weights."""
        return jax.tree.map(
            lambda f: prior_shapes(f) if f.name == PRIOR else part_shapes(f, self.param_dtype),
            self.sources["stages"],
        )

    def text_shapes(self) -> Any:
        """`load_text` as shapes."""
        return jax.tree.map(lambda f: part_shapes(f, self.text_dtype), self.sources["text"])

    def _load(self, folder: Path, dtype: DType, place: Place | None = None) -> Params | Prior:
        if folder.name == PRIOR:
            prior: Any = load_prior(folder)
            return jax.tree.map(lambda a: place((), np.asarray(a)), prior) if place else prior
        if self.random:
            params = random_part(folder, dtype)
            return jax.tree.map(lambda a: place((), a), params) if place else params
        return load_part(folder, param_dtype=dtype, place=place)[1]

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


def load_cascade(model: str | Path) -> Loaded:
    """Opens and loads a built-in name, a folder, a hub id, or "A,B,C" small to large."""
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
    assembly = Assembly(size, dtype, random)
    name = str(model)
    folder = MODELS / name if "/" not in name and (MODELS / name).is_dir() else None
    if folder is None and "," not in name:
        folder = find_folder(name)
    if folder is not None and (folder / "cascade.json").is_file():
        card = read_card(folder)
        rows = card["stages"]
        homes = [folder / r["folder"] if "folder" in r else find_folder(r["id"]) for r in rows]
    else:
        homes = (
            [folder] if folder else [find_folder(n.strip()) for n in name.split(",") if n.strip()]
        )
        if not 1 <= len(homes) <= len(NAMES):
            raise UserError(f"--model: {name!r} names {len(homes)} stages; 1 to 3 make a cascade")
        rows = [{"name": n} for n, _ in zip(NAMES, homes, strict=False)]
        card = {"name": ",".join(h.name for h in homes)}
    for home, row in zip(homes, rows, strict=True):
        assembly.add(home, row, card)
    cascade, sources = assembly.result(card["name"])
    if size not in (None, cascade.size) and assembly.families[0] == "if":
        raise UserError(
            f"--size={size}: the model {cascade.name} only works at {cascade.size} pixels"
        )
    return Opened(
        cascade=cascade,
        card={**card, "family": assembly.families[0]},
        sources=sources,
        param_dtype=param_dtype,
        text_dtype=text_dtype,
        random=random,
    )


def find_folder(name: str) -> Path:
    """The local folder of one name: a built-in model, a folder, or a hub id's snapshot.

    Raises:
        UserError: there is no such model.
    """
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
    return hub.resolve(name, PARTS[family_of(index)])


def read_card(folder: Path) -> dict[str, Any]:
    """What the `cascade.json` of a model's folder says.

    Raises:
        UserError: it is of another format.
        weights.WeightsError: it is missing or broken.
    """
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
        local = hub.resolve(first, ()) if "/" in first else find_folder(first)
    if (local / "cascade.json").is_file():
        card = read_card(local)
        row = card["stages"][0]
        home = local / row["folder"] if "folder" in row else hub.resolve(row["id"], ())
        return {**card, "family": family_of(home)}
    return {"name": local.name, "family": family_of(local)}
