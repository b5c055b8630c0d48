"""The latent model that comes with the package: Stable Diffusion's path, end to end."""

import json

import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.backbones import registry
from imagic_jax.cli.main import main

FOLDER = registry.MODELS / "flatland-sd"


def test_it_is_in_stable_diffusions_layout():
    assert "flatland-sd" in registry.built_in()
    index = json.loads((FOLDER / "model_index.json").read_text())
    assert index["_class_name"] == "StableDiffusionPipeline"
    parts = {k: v[1] for k, v in index.items() if isinstance(v, list)}
    assert all(name is None or (FOLDER / part).is_dir() for part, name in parts.items())
    for part, name in (("text_encoder", "model"), ("unet", "diffusion_pytorch_model")):
        assert (FOLDER / part / "config.json").is_file()
        assert (FOLDER / part / f"{name}.safetensors").is_file()
    assert registry.family_of(FOLDER) == "sd"


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """`imagic edit --config=flatland_sd`."""
    folder = tmp_path_factory.mktemp("edited") / "out"
    assert main(["edit", "--config=flatland_sd", "--quiet", f"--out={folder}", "--eta=0,1.5"]) == 0
    return folder


def pixels(path):
    return np.asarray(pil.open(path), np.float32) / 255


def test_the_shipped_example_comes_back_at_eta_0_and_moves_away(edited):
    result = json.loads((edited / "result.json").read_text())
    assert result["model"] == "flatland-sd"
    assert result["reconstruction_psnr"] > 18.0
    assert not any("looks like nothing" in w for w in result["warnings"])
    before, after = (pixels(edited / f"edited_eta{e}_seed0.png") for e in ("0", "1.5"))
    assert before.shape == (64, 64, 3)
    assert np.abs(after - before).mean() > 0.003


def test_plain_samples_show_named_colours_and_places(tmp_path):
    texts = {"a red ball in the snow": 0, "a green cake in the snow": 1}
    flags = [f"--text={t}" for t in texts]
    out = tmp_path / "s"
    flags += ["--config=flatland_sd", "--quiet", f"--out={out}", "--seeds=0,1,2"]
    code = main(["sample", *flags])
    assert code == 0
    for i, channel in enumerate(texts.values()):
        drawn = [pixels(p) for p in sorted(out.glob(f"{i:02d}-*.png"))]
        assert len(drawn) == 3
        centres = [d[32:48, 22:42].mean((0, 1)) for d in drawn]
        assert sum(c.argmax() == channel for c in centres) >= 2
        ground = np.mean([d[56:, :12].mean() for d in drawn])
        assert ground > 0.7  # snow
