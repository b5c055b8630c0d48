"""Imagic on the built-in cascade in about a third of `flatland_imagen`'s time.

Fewer steps at higher rates in every loop, as `flatland_sd_fast` has them. What its edits are worth
is in benchmarks/results/dev_flatland_imagen.
"""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

DEFAULT = Path(__file__).with_name("flatland_imagen.py")


def get_config() -> ConfigDict:
    config = load_config(DEFAULT)
    config.embedding.update({"steps": 30, "learning_rate": 0.03})
    config.tuning.base.update({"steps": 40, "learning_rate": 1e-3})
    config.tuning.sr1.update({"steps": 25, "learning_rate": 6e-4})
    return config
