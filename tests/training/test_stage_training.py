"""A stage trained for a few steps is written in the layout that the registry loads (minutes)."""

import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from imagic_jax.backbones import registry
from imagic_jax.cli.main import main
from imagic_jax.jobs import presets
from imagic_jax.training import warm_start
from imagic_jax.weights import load_part


def tiny_config(path, steps, **unet):
    """A config of the tiny cascade's base, as a file."""
    config = presets.load_config(
        presets.find_preset("train/flatland_imagen_base", "train/*.py")
    ).to_dict()
    config["model"], config["max_length"] = "tiny", tiny.LENGTH
    config["stage"] = tiny.STAGES[0]
    config["unet"] = tiny.unet_config(16, 2, False) | unet
    config["data"] |= {"batch": 6, "mark_share": 0.5}
    config["recipe"] |= {"steps": steps}
    path.write_text(
        "import json\nfrom ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict(json.loads({json.dumps(json.dumps(config))}))\n"
    )
    return path


@pytest.mark.slow
def test_a_trained_stage_loads_and_draws(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    shutil.rmtree(model / "base" / "unet")
    path = tiny_config(tmp_path / "tiny_stage.py", 3)
    assert main(["train", f"--config={path}", f"--model={model}", "--out=run"]) == 0
    loaded = registry.load_cascade(model)
    assert [s.name for s in loaded.cascade.stages] == ["base", "sr1", "sr2"]
    prior = loaded.params["stages"][0]["prior"]
    assert prior.x0.shape == (72, 8, 8, 12)
    assert prior.cond.states.shape == (72, tiny.LENGTH, tiny.WIDTH)
    training = loaded.card["stages"][0]["training"]
    assert training["steps"] == 3
    assert training["mark_share"] == 0.5
    # a finished run called again by other code still says which trained it
    monkeypatch.setattr("imagic_jax.training.run.commit", lambda: "later")
    assert main(["train", f"--config={path}", f"--model={model}", "--out=run"]) == 0
    again = registry.load_cascade(model).card["stages"][0]["training"]
    assert again == training
    assert again["commit"] != "later"
    assert len(list((tmp_path / "run" / "sheets").glob("*.png"))) >= 1
    # and is trained on from there
    more = ["train", f"--config={path}", f"--start_from={model}", "--model=more", "--out=run2"]
    assert main(more) == 0
    training = registry.load_cascade(tmp_path / "more").card["stages"][0]["training"]
    assert training["started_from"]["steps"] == 3


def unet_of(model):
    return load_part(model / "base" / "unet")[1]


@pytest.mark.slow
def test_a_run_without_steps_gives_back_what_it_started_from(tiny_model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tiny_config(tmp_path / "tiny_stage.py", 0)
    command = ["train", f"--config={path}", f"--start_from={tiny_model}", "--model=m", "--out=run"]
    assert main(command) == 0
    before, after = unet_of(tiny_model), unet_of(tmp_path / "m")
    for a, b in zip(*(jax.tree.leaves(p) for p in (before, after)), strict=True):
        np.testing.assert_array_equal(np.float16(a), b)
    assert (tmp_path / "m" / "sr1" / "unet" / "config.json").is_file()


def test_a_start_is_the_stage_of_a_trained_model(tiny_model, tmp_path):
    path = tiny_config(tmp_path / "tiny_stage.py", 0)
    start = warm_start.open_start(
        str(tiny_model), presets.load_config(path).to_dict(), tmp_path / "m"
    )
    for a, b in zip(*map(jax.tree.leaves, (start.unet, unet_of(tiny_model))), strict=True):
        np.testing.assert_array_equal(a, b)
    warm_start.copy_model(start, tmp_path / "m")
    assert (tmp_path / "m" / "sr1" / "unet" / "config.json").is_file()
    (tmp_path / "m" / "cascade.json").unlink()
    warm_start.copy_model(start, tmp_path / "m")  # which is there, whatever is in it
    assert not (tmp_path / "m" / "cascade.json").exists()


def test_steps_are_counted_over_all_starts():
    history = {"steps": 5, "started_from": {"steps": 30, "started_from": {"steps": 200}}}
    assert warm_start.Start(Path("."), {}, history).steps == 235


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("nowhere", "flatland-imagen, flatland-sd"),
        ("flatland-imagen", "its UNet is not config.unet"),
    ],
)
def test_what_cannot_be_gone_on_from_is_told(name, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tiny_config(tmp_path / "tiny_stage.py", 0)
    command = ["train", f"--config={path}", f"--start_from={name}", "--model=m", "--out=run"]
    assert main(command) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "m").exists()
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_write_over_what_it_starts_from(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tiny_config(tmp_path / "tiny_stage.py", 0)
    model = f"{tiny_model}"
    command = ["train", f"--config={path}", f"--start_from={model}", f"--model={model}"]
    assert main([*command, "--out=run"]) == 2
    assert "give --model another folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_card_that_tells_of_no_such_stage_is_named(tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = tiny_config(tmp_path / "tiny_stage.py", 0)
    command = ["train", f"--config={path}", "--start_from=broken", "--model=m", "--out=run"]
    shutil.copytree(tiny_model, "broken")
    card = Path("broken/cascade.json")
    good = json.loads(card.read_text())
    for text in ("{", json.dumps(good | {"stages": []}), json.dumps(good | {"stages": [{}]})):
        card.write_text(text)
        assert main(command) == 2
        assert "cascade.json" in capsys.readouterr().err
    card.unlink()
    assert main(command) == 2
    assert "cascade.json" in capsys.readouterr().err
    assert not Path("m").exists()


def test_a_part_that_is_no_diffusion_stage_has_no_start(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["train", "--config=train/flatland_vae", "--start_from=flatland-sd", "--out=run"]
    assert main(command) == 2
    assert "leave --start_from away" in capsys.readouterr().err
