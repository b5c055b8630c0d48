"""A stage trained for a few steps is written in the layout that the registry loads (minutes)."""

import json
import shutil

import pytest
import tiny

from imagic_jax.backbones import registry
from imagic_jax.jobs import presets


@pytest.mark.slow
def test_a_trained_stage_loads_and_draws(tiny_model, tmp_path, monkeypatch):
    from imagic_jax.cli.main import main

    monkeypatch.chdir(tmp_path)
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    shutil.rmtree(model / "base" / "unet")
    config = presets.load_config(
        presets.find_preset("train/flatland_imagen_base", "train/*.py")
    ).to_dict()
    config["model"], config["max_length"] = "tiny", tiny.LENGTH
    config["stage"] = tiny.STAGES[0]
    config["unet"] = tiny.unet_config(16, 2, False)
    config["data"] |= {"batch": 6}
    config["recipe"] |= {"steps": 3}
    path = tmp_path / "tiny_stage.py"
    path.write_text(
        "import json\nfrom ml_collections import ConfigDict\n"
        f"def get_config():\n    return ConfigDict(json.loads({json.dumps(json.dumps(config))}))\n"
    )
    assert main(["train", f"--config={path}", f"--model={model}", "--out=run"]) == 0
    loaded = registry.load_cascade(model)
    assert [s.name for s in loaded.cascade.stages] == ["base", "sr1", "sr2"]
    assert loaded.card["stages"][0]["training"]["steps"] == 3
    assert len(list((tmp_path / "run" / "sheets").glob("*.png"))) >= 1
