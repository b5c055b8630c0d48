"""Model folders made of recorded PyTorch weights."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"


@pytest.fixture
def model_folder(tmp_path: Path) -> Callable[..., Path]:
    """Function (fixture name, file name for the weights) -> a model folder with these weights."""

    def build(name: str, weights: str | None = None) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        config = "t5_encoder" if name.startswith("t5") else name
        stem = "model" if name.startswith("t5") else "diffusion_pytorch_model"
        shutil.copy(PARITY / f"{config}.json", folder / "config.json")
        target = folder / (weights or f"{stem}.safetensors")
        shutil.copy(PARITY / f"{name}.safetensors", target)
        return folder

    return build
