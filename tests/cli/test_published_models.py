"""`--model=FOLDER`: published layouts are opened, edited and drawn again by the program."""

import json

import numpy as np
import published
import pytest
from PIL import Image as pil

from imagic_jax.jobs import models, presets, settings

SHORT = (
    "--config.embedding.steps=2",
    "--config.tuning.base.steps=2",
    "--config.sampling.base.steps=2",
    "--config.sampling.batch=2",
    "--eta=0,1",
)
SHORT_CASCADE = (
    "--config.tuning.sr1.steps=2",
    "--config.sampling.sr1.steps=2",
    "--config.sampling.sr2.steps=2",
)


def pixels(path):
    with pil.open(path) as opened:
        return np.asarray(opened)


@pytest.fixture(scope="module")
def sd(tmp_path_factory):
    return published.write_sd(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture(scope="module")
def cascade(tmp_path_factory):
    return published.write_if(tmp_path_factory.mktemp("if"))


def test_stable_diffusion_is_edited_and_drawn_again(imagic, picture, sd, tmp_path):
    common = (f"--model={sd}", f"--image={picture}", "--text=a red dog", "--out=o")
    code, _, err = imagic("edit", *common, *SHORT)
    assert code == 0, err
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert result["preset"] == "sd15"
    assert not result["random_weights"]
    assert pixels(tmp_path / "o" / "edited_eta1_seed0.png").shape == (128, 128, 3)
    code, _, err = imagic("render", "--fit=o/fit", "--eta=0,1")
    assert code == 0, err
    for eta in (0, 1):
        name = f"edited_eta{eta}_seed0.png"
        again = pixels(tmp_path / "o" / "rendered" / name)
        np.testing.assert_array_equal(again, pixels(tmp_path / "o" / name))


@pytest.mark.slow
def test_lora_makes_a_small_fit(imagic, picture, sd, tmp_path):
    common = (f"--model={sd}", f"--image={picture}", "--text=a red dog", "--out=o")
    code, _, err = imagic("edit", *common, *SHORT, "--config.tuning.base.rank=2")
    assert code == 0, err
    size = sum(p.stat().st_size for p in (tmp_path / "o" / "fit" / "arrays").rglob("*"))
    assert size < 0.5 * (sd / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size


def test_sizes_are_snapped_to_what_the_networks_can_halve(imagic, picture, sd, tmp_path):
    common = (f"--model={sd}", f"--image={picture}", "--text=a red dog", "--out=o")
    code, _, err = imagic("edit", *common, *SHORT, "--size=75")
    assert code == 0, err
    assert "cannot work at 75 pixels; the picture is resized to 64" in err
    assert pixels(tmp_path / "o" / "edited_eta1_seed0.png").shape == (64, 64, 3)
    assert imagic("render", "--fit=o/fit", "--eta=1")[0] == 0


@pytest.mark.slow
def test_sdxl_is_edited(imagic, picture, tmp_path):
    folder = published.write_sdxl(tmp_path / "xl")
    common = (f"--model={folder}", f"--image={picture}", "--text=a red dog", "--out=o")
    code, _, err = imagic("edit", *common, *SHORT, "--size=64")
    assert code == 0, err
    assert json.loads((tmp_path / "o" / "result.json").read_text())["preset"] == "sdxl"


@pytest.mark.parametrize("count", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_a_cascade_is_named_by_its_stages(imagic, picture, cascade, tmp_path, count):
    model = ",".join(map(str, cascade[:count]))
    common = (f"--model={model}", f"--image={picture}", "--text=A Red dog", "--out=o")
    short = [*SHORT, *(SHORT_CASCADE if count > 1 else ())]
    code, _, err = imagic("edit", *common, *short)
    assert code == 0, err
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert result["preset"] == "deepfloyd_if_m"
    size = {1: 16, 3: 128}[count]
    assert pixels(tmp_path / "o" / "edited_eta1_seed0.png").shape == (size, size, 3)


def test_stages_in_the_wrong_order_are_refused(imagic, picture, cascade, sd):
    common = (f"--image={picture}", "--text=a red dog", "--out=o")
    wrong = {
        f"{cascade[1]},{cascade[0]}": "if_ii, of the family if_sr, cannot come first",
        f"{cascade[0]},{sd}": "sd, of the family sd, cannot come behind another",
        str(cascade[2]): "x4, of the family x4, cannot come first",
    }
    for model, words in wrong.items():
        code, _, err = imagic("edit", f"--model={model}", *common)
        assert code == 2
        assert words in err
        assert "small to large" in err


@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("sd15", (512,)),
        ("sd21", (768,)),
        ("sd21_base", (512,)),
        ("sdxl", (1024,)),
        ("deepfloyd_if_m", (64, 256, 1024)),
        ("deepfloyd_if_l", (64, 256, 1024)),
        ("deepfloyd_if_xl", (64, 256, 1024)),
    ],
)
def test_every_preset_opens_at_its_real_shape_without_weights(preset, sizes):
    config = presets.load_config(presets.find_preset(preset))
    opened, notes = models.open_preset(config, random_weights=True)
    assert tuple(s.size for s in opened.cascade.stages) == sizes
    assert notes == [models.RANDOM]
    tuning = settings.from_config(config, opened.cascade).tuning
    assert tuple(t is not None for t in tuning) == opened.cascade.tuned


def test_random_weights_are_said_loudly(imagic, picture, sd, tmp_path, monkeypatch):
    monkeypatch.setattr("imagic_jax.jobs.models.architecture", lambda name: sd)
    common = ("--config=sd15", "--random_weights", f"--image={picture}", "--text=a red dog")
    code, _, err = imagic("edit", *common, "--out=o", *SHORT)
    assert code == 0, err
    assert "RANDOM WEIGHTS" in err
    assert "RANDOM WEIGHTS" in (tmp_path / "o" / "index.html").read_text()
    result = json.loads((tmp_path / "o" / "result.json").read_text())
    assert result["random_weights"]
    assert any("RANDOM WEIGHTS" in w for w in result["warnings"])


def test_an_edit_that_cannot_fit_is_refused_before_anything_is_loaded(imagic, picture, tmp_path):
    """SDXL's full tuning needs 38 GB; only configs are there."""
    common = (f"--image={picture}", "--text=a red dog", "--out=o", "--random_weights")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("imagic_jax.jobs.memory.available", lambda: 20 * 2**30)
        code, _, err = imagic("edit", "--config=sdxl", *common)
    assert code == 2
    assert "needs at least 48" in err
    assert "--config.tuning.base.rank=16" in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda f: (f / "model_index.json").unlink(), "has no model_index.json"),
        (lambda f: (f / "vae" / "config.json").unlink(), "vae: no config.json"),
        (
            lambda f: (f / "model_index.json").write_text('{"_class_name": "FluxPipeline"}'),
            "is for FluxPipeline, which is not supported",
        ),
        (lambda f: (f / "unet" / "config.json").write_text('{"_class_name": "X"}'), "is for 'X'"),
        (lambda f: (f / "tokenizer" / "merges.txt").unlink(), "merges.txt"),
        (lambda f: (f / "scheduler" / "scheduler_config.json").unlink(), "lacks"),
    ],
)
def test_broken_folders_are_told_in_one_sentence(imagic, picture, tmp_path, break_it, words):
    folder = published.write_sd(tmp_path / "sd")
    break_it(folder)
    common = (f"--image={picture}", "--text=a red dog", "--out=o")
    code, _, err = imagic("edit", "--config=sd15", f"--model={folder}", *common)
    assert code == 2
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "o").exists()


def test_a_model_that_is_out_of_reach_is_told_in_one_sentence(imagic, picture, tmp_path):
    common = (f"--image={picture}", "--text=a red dog", "--out=o")
    for flags in (("--model=someone/something",), ("--config=sdxl",), ("--model=nowhere",)):
        code, out, err = imagic("edit", *flags, *common)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
        assert "give a folder" in err
