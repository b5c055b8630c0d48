"""A preset for the tiny cascade, and the command line in this process."""

import numpy as np
import pytest
from PIL import Image as pil

PRESET = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.model = {model!r}
    config.example = ConfigDict({{"image": "bird.png", "text": "a bird spreading its wings"}})
    config.seed = 0
    config.embedding = ConfigDict({{"steps": 6, "learning_rate": 0.01, "batch": 2}})
    tuning = {{"steps": 6, "learning_rate": 1e-3, "batch": 2, "train": ""}}
    config.tuning = ConfigDict({{"base": tuning, "sr1": dict(tuning, steps=4)}})
    config.sampling = ConfigDict(
        {{
            "base": {{"steps": 3, "guidance": 2.0}},
            "sr1": {{"steps": 2, "guidance": 1.0}},
            "sr2": {{"steps": 2, "guidance": 1.0}},
            "batch": 4,
            "sampler": "ddim",
            "start": 0.7,
        }}
    )
    config.etas = (0.0, 0.5, 1.0)
    config.seeds = (0,)
    return config
"""


@pytest.fixture(scope="session")
def preset(tiny_model, tmp_path_factory):
    """A preset file for the tiny cascade."""
    path = tmp_path_factory.mktemp("presets") / "tiny_preset.py"
    path.write_text(PRESET.format(model=str(tiny_model)))
    return path


@pytest.fixture(scope="session")
def picture(tmp_path_factory):
    """A picture file that is not square."""
    y, x = np.mgrid[:80, :100]
    array = np.stack([x * 2, y * 3, 255 - x * 2], -1).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "me.png"
    pil.fromarray(array).save(path)
    return path


@pytest.fixture
def imagic(capsys, monkeypatch, tmp_path):
    """Runs one command line in an empty folder: (exit code, standard output, standard error)."""
    from imagic_jax.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        out = capsys.readouterr()
        return code, out.out, out.err

    return run
