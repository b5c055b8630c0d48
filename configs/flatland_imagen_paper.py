"""Imagic on the built-in cascade with the paper's schedule for Imagen: 100 / 1500 / 1500 steps.

One noise draw per step, no prior, drawn from noise alone, as there. The rates are not the paper's
but guesses for this model, whose embedding's entries are of order one.
"""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

FAST = Path(__file__).with_name("flatland_imagen.py")


def get_config() -> ConfigDict:
    config = load_config(FAST)
    config.embedding.update({"steps": 100, "batch": 1})
    config.tuning.base.update({"steps": 1500, "learning_rate": 3e-5, "batch": 1})
    config.tuning.base.update({"train": "", "dropout": 0.0, "prior_batch": 0})
    config.tuning.sr1.update({"steps": 1500, "learning_rate": 3e-5, "batch": 1})
    config.sampling.update({"start": 1.0})
    return config
