"""The metrics' networks, opened from a folder of published weights when a metric first asks.

Nothing is fetched and nothing stands in for what is missing: a metric whose file is not there says
which file it wants.
"""

import functools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from imagic_jax.errors import UserError
from imagic_jax.metrics.clip import Preprocessing
from imagic_jax.models import CLIPModel
from imagic_jax.models.dino import DINO, VIT_B8, VIT_S16
from imagic_jax.models.inception import FIDInception
from imagic_jax.models.lpips import HEAD_NAMES, LPIPS, NETS, Net
from imagic_jax.typing import Params
from imagic_jax.weights import load_part
from imagic_jax.weights.errors import WeightsError
from imagic_jax.weights.pretrained_tokenizer import load_tokenizer
from imagic_jax.weights.single_files import MissingWeights, StateDict, load_state_dicts

CLIP_L14, CLIP_B32 = "clip-vit-large-patch14", "clip-vit-base-patch32"

_TRUNKS = {
    "alex": StateDict("alexnet-owt-7be5be79", "torchvision's AlexNet", ("classifier.",)),
    "vgg": StateDict("vgg16-397923af", "torchvision's VGG16", ("classifier.",)),
    "squeeze": StateDict(
        "squeezenet1_1-b8a52dc0", "torchvision's SqueezeNet 1.1", ("classifier.",)
    ),
}
_HEADS = {
    net: StateDict(f"lpips_{net}", "lpips/weights/v0.1 of the lpips package", published=net)
    for net in NETS
}
_INCEPTION = StateDict(
    "pt_inception-2015-12-05-6726825d",
    "pytorch-fid's FID Inception",
    (".num_batches_tracked", "fc.", "AuxLogits."),
)
_DINOS = {
    "vitb8": (VIT_B8, StateDict("dino_vitbase8_pretrain", "facebookresearch/dino's ViT-B/8")),
    "vits16": (VIT_S16, StateDict("dino_deitsmall16_pretrain", "facebookresearch/dino's ViT-S/16")),
}


class Network(NamedTuple):
    """A module and its parameters."""

    module: Any
    params: Params


class Pair(NamedTuple):
    """A CLIP pair with all that its folder says."""

    module: CLIPModel
    params: Params
    how: Preprocessing
    tokenize: Callable[[Sequence[str]], jax.Array]


class Networks:
    """A folder of weights; each network is read once.

    Args:
        folder: holds the files that `catalog` names, and CLIP pairs as folders of transformers;
            None if the user gave none.
    """

    def __init__(self, folder: str | Path | None):
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None and not self.folder.is_dir():
            raise UserError(f"{self.folder}: there is no such folder of metric weights")
        self.lpips = functools.cache(self._lpips)
        self.inception = functools.cache(self._inception)
        self.dino = functools.cache(self._dino)
        self.clip = functools.cache(self._clip)

    def _lpips(self, net: Net) -> Network:
        module = LPIPS(net)
        x = _pictures(64)
        files = [_TRUNKS[net], _HEADS[net]]
        params = load_state_dicts(self._wanted(files), files, module, {"x": x, "y": x}, HEAD_NAMES)
        return Network(module, params)

    def _inception(self) -> Network:
        module, files = FIDInception(), [_INCEPTION]
        return Network(
            module, load_state_dicts(self._wanted(files), files, module, {"x": _pictures(299)})
        )

    def _dino(self, name: str) -> Network:
        config, file = _DINOS[name]
        module, inputs = DINO(config), {"x": _pictures(config.image_size)}
        return Network(module, load_state_dicts(self._wanted([file]), [file], module, inputs))

    def _clip(self, model: str) -> Pair:
        """A CLIP pair: a folder of that name, in the folder of weights or anywhere."""
        return open_pair(self._wanted_folder(model))

    def _wanted(self, files: Sequence[StateDict]) -> Path:
        """The folder of weights, once all the files are seen to be there."""
        if self.folder is None:
            names = " and ".join(file.name for file in files)
            raise MissingWeights(f"wants {names}; no folder of metric weights was given")
        for file in files:
            file.find(self.folder)
        return self.folder

    def _wanted_folder(self, model: str) -> Path:
        places = [] if self.folder is None else [self.folder / model]
        for folder in (*places, Path(model)):
            if (folder / "config.json").is_file():
                return folder
        where = "; no folder of metric weights was given" if self.folder is None else ""
        where = where or f" in {self.folder}"
        raise MissingWeights(
            f"wants the folder {model}{where}: a CLIP pair as transformers saves it "
            f"(hf download openai/{model} --local-dir {model})"
        )


def open_pair(folder: Path) -> Pair:
    """Opens a CLIP pair as transformers saves it, with its tokenizer and preprocessing.

    Raises:
        MissingWeights: its weights are pickled.
        WeightsError, TokenizerError: a file is missing or broken, or it is another network.
    """
    try:
        module, params = load_part(folder)
    except WeightsError as error:
        if any(folder.glob("*.safetensors")):
            raise
        raise MissingWeights(str(error)) from error  # pickled: says how to convert
    if not isinstance(module, CLIPModel):
        raise WeightsError(f"{folder}: holds no CLIP pair (CLIPModel)")
    tokenizer = load_tokenizer(_tokenizer_folder(folder))

    def tokenize(texts: Sequence[str]) -> jax.Array:
        return jnp.asarray(tokenizer(texts)[0], jnp.int32)

    how = preprocessing(folder, module.config.vision.image_size)
    return Pair(module, params, how, tokenize)


def preprocessing(folder: Path, size: int) -> Preprocessing:
    """What `preprocessor_config.json` says about mean and deviation; else OpenAI's.

    Raises:
        WeightsError: the file is broken.
    """
    path = folder / "preprocessor_config.json"
    usual = Preprocessing(size)
    if not path.is_file():
        return usual
    try:
        raw = json.loads(path.read_text())
        mean, std = (tuple(map(float, raw.get(f"image_{n}", d))) for n, d in _defaults(usual))
    except (ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: cannot be read ({error})") from error
    if len(mean) != 3 or len(std) != 3:
        raise WeightsError(f"{path}: image_mean and image_std must be three numbers each")
    return Preprocessing(size, mean, std)


def _defaults(how: Preprocessing) -> tuple[tuple[str, Any], ...]:
    return ("mean", how.mean), ("std", how.std)


def _tokenizer_folder(folder: Path) -> Path:
    """Beside the weights, as transformers saves it, or in a folder of its own."""
    return folder / "tokenizer" if (folder / "tokenizer").is_dir() else folder


def _pictures(size: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
