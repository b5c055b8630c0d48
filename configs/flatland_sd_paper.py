"""Imagic on the built-in latent model with the paper's schedule for Stable Diffusion: 1000 / 1500.

One noise draw per step, as there, and the whole UNet is tuned. The rates are not the paper's but
guesses for this model, whose UNet has 3 million parameters in place of 860.
"""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

DEFAULT = Path(__file__).with_name("flatland_sd.py")


def get_config() -> ConfigDict:
    config = load_config(DEFAULT)
    config.embedding.update({"steps": 1000, "learning_rate": 2e-3, "batch": 1})
    config.tuning.base.update({"steps": 1500, "learning_rate": 3e-5, "batch": 1})
    config.tuning.base.update({"train": "", "dropout": 0.0})
    return config
