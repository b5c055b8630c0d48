"""Networks whose published weights are bare state dicts, one file each: those of the metrics.

torchvision, `lpips`, pytorch-fid and DINO publish pickles, which can run code when opened. What is
read here is the same state dict as safetensors under the published file's name, and a command that
writes it is part of every message about a file that is missing.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.typing import Params
from imagic_jax.weights.errors import WeightsError
from imagic_jax.weights.families import parameter_shapes
from imagic_jax.weights.folder import check_fit, read_all
from imagic_jax.weights.layout import slots, unflatten
from imagic_jax.weights.safetensors_io import PICKLES, StoredTensor, open_file


class MissingWeights(WeightsError):
    """The file is not there (a broken one is another matter)."""


@dataclass(frozen=True)
class StateDict:
    """A published state dict.

    Attributes:
      stem: the name of the file that is read, without ending: the published one's.
      source: who publishes it, for messages.
      ignored: beginnings and endings of keys that are of no use here.
      published: the published file's stem where it says too little.
    """

    stem: str
    source: str
    ignored: tuple[str, ...] = ()
    published: str | None = None

    @property
    def name(self) -> str:
        """The file that is read."""
        return f"{self.stem}.safetensors"

    def find(self, folder: str | Path) -> Path:
        """The file in `folder`.

        Raises:
          MissingWeights: it is not there, or only as a pickle; the message says what to do.
        """
        folder = Path(folder)
        path = folder / self.name
        if path.is_file():
            return path
        stems = [self.stem] if self.published is None else [self.stem, self.published]
        pickles = [folder / f"{stem}{end}" for stem in stems for end in PICKLES]
        pickle = next((p for p in pickles if p.is_file()), None)
        if pickle is not None:
            raise MissingWeights(
                f"{pickle} is pickled and not opened because it can run code; convert it where you "
                f"trust it: {conversion(pickle, path)}"
            )
        published = Path(f"{stems[-1]}.pth")
        raise MissingWeights(
            f"wants {self.name} in {folder}: {self.source}, converted by "
            f"{conversion(published, Path(self.name))}"
        )

    def read(self, folder: str | Path) -> dict[str, StoredTensor]:
        """The tensors that are of use; raises as `find` does, and WeightsError for a broken file"""
        return {k: t for k, t in open_file(self.find(folder)).items() if not self._ignores(k)}

    def _ignores(self, key: str) -> bool:
        return key.startswith(self.ignored) or key.endswith(self.ignored)


def conversion(pickle: Path, out: Path) -> str:
    """A command that converts a pickled state dict."""
    return (
        f'python -c "import torch; from safetensors.torch import save_file; '
        f"s = torch.load('{pickle}', map_location='cpu', weights_only=True); "
        f"save_file({{k: v.contiguous() for k, v in s.items()}}, '{out}')\""
    )


def load_state_dicts(
    folder: str | Path,
    files: Sequence[StateDict],
    module: nn.Module,
    inputs: Mapping[str, Any],
    conv_names: Collection[str] = (),
) -> Params:
    """The parameters of a module from the state dicts that together hold them, as float32.

    Args:
      folder: holds the files.
      inputs: the module's inputs as shapes, by argument name.
      conv_names: names of linear modules that the files keep as 1x1 convolutions.

    Raises:
      MissingWeights: a file is not there.
      WeightsError: a file is broken, or lacks a tensor, or holds others.
    """
    table = slots(parameter_shapes(module, inputs), conv_names)
    stored: dict[str, StoredTensor] = {}
    for file in files:
        stored |= file.read(folder)
    check_fit(
        " and ".join(str(Path(folder) / file.name) for file in files),
        {key: slot.torch_shape for key, slot in table.items()},
        {key: tensor.shape for key, tensor in stored.items()},
        by="the network",
    )
    work = [(slot, stored[key], stored[key].shape) for key, slot in table.items()]
    return unflatten(read_all(work, jnp.float32, None))
