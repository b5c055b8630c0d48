"""Imagic on the built-in latent model in a third of `flatland_sd`'s time.

That is a fifteenth of the paper's schedule: fewer steps at higher rates, in both stages. Against
`flatland_sd` it asks for a slightly smaller eta and keeps a little less of the picture;
benchmarks/results/presets_flatland_sd has all three.
"""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

FULL = Path(__file__).with_name("flatland_sd.py")


def get_config() -> ConfigDict:
    config = load_config(FULL)
    config.embedding.update({"steps": 30, "learning_rate": 0.03})
    config.tuning.base.update({"steps": 40, "learning_rate": 1e-3})
    return config
