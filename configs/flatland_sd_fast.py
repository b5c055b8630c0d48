"""Imagic on the built-in latent model in a third of `flatland_sd`'s time.

That is a sixteenth of the paper's schedule (`flatland_sd_paper`): fewer steps at higher rates, in
both stages. benchmarks/results/presets_flatland_sd has the two side by side, on 24 validation
pictures.
"""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

DEFAULT = Path(__file__).with_name("flatland_sd.py")


def get_config() -> ConfigDict:
    config = load_config(DEFAULT)
    config.embedding.update({"steps": 30, "learning_rate": 0.03})
    config.tuning.base.update({"steps": 40, "learning_rate": 1e-3})
    return config
