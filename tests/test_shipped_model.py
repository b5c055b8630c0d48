"""The model that comes with the package: in diffusers' layout, small, and good enough to edit."""

import json

import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.backbones import registry
from imagic_jax.cli.main import main

FOLDER = registry.MODELS / "flatland-imagen"


def test_it_is_in_the_layout_that_pytorch_opens():
    assert "flatland-imagen" in registry.built_in()
    for stage in ("base", "sr1", "sr2"):
        index = json.loads((FOLDER / stage / "model_index.json").read_text())
        assert index["unet"] == ["diffusers", "UNet2DConditionModel"]
        assert (FOLDER / stage / "unet" / "config.json").is_file()
        assert (FOLDER / stage / "unet" / "diffusion_pytorch_model.safetensors").is_file()
        assert (FOLDER / stage / "scheduler" / "scheduler_config.json").is_file()
    assert (FOLDER / "base" / "text_encoder" / "model.safetensors").is_file()
    assert (FOLDER / "README.md").is_file()


def test_all_weights_together_stay_small():
    total = sum(p.stat().st_size for p in registry.MODELS.rglob("*.safetensors"))
    assert total < 33e6


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """`imagic edit` with no picture and no text."""
    folder = tmp_path_factory.mktemp("edited") / "out"
    assert main(["edit", "--quiet", f"--out={folder}"]) == 0
    return folder


def test_the_shipped_example_comes_back_at_eta_0(edited):
    result = json.loads((edited / "result.json").read_text())
    assert result["model"] == "flatland-imagen"
    assert result["text"] == "a bird spreading its wings"
    assert result["reconstruction_psnr"] > 21.0
    assert 0.05 < result["embedding_distance"] < 1.0
    assert not any("looks like nothing" in w for w in result["warnings"])


def pixels(path):
    return np.asarray(pil.open(path), np.float32) / 255


def test_pictures_move_away_from_the_input_as_eta_grows(edited):
    etas = json.loads((edited / "result.json").read_text())["etas"]
    first = pixels(edited / "edited_eta0_seed0.png")
    away = [np.square(pixels(edited / f"edited_eta{e:g}_seed0.png") - first).mean() for e in etas]
    assert away == sorted(away)
    assert away[-1] > 1e-4
    assert np.abs(first - pixels(edited / "input.png")).mean() < 0.12


def test_the_edit_changes_the_subject_and_leaves_the_frame(edited):
    change = np.abs(
        pixels(edited / "edited_eta2_seed0.png") - pixels(edited / "edited_eta0_seed0.png")
    ).mean(-1)
    quarter = len(change) // 4
    middle = np.zeros(change.shape, bool)
    middle[quarter:-quarter, quarter:-quarter] = True
    assert change[middle].mean() > 2 * change[~middle].mean()


def test_plain_samples_show_named_colours(tmp_path):
    texts = {"a red ball in the snow": 0, "a green car in the snow": 1}
    flags = [f"--text={t}" for t in texts]
    code = main(["sample", "--quiet", f"--out={tmp_path / 's'}", "--seeds=0,1,2", *flags])
    assert code == 0
    for i, channel in enumerate(texts.values()):
        files = sorted((tmp_path / "s").glob(f"{i:02d}-*.png"))
        assert len(files) == 3
        right = 0
        for path in files:
            picture = pixels(path)
            size = picture.shape[0]
            centre = picture[size // 2 : 3 * size // 4, size // 3 : 2 * size // 3].mean((0, 1))
            right += int(centre.argmax() == channel)
        assert right >= 2
