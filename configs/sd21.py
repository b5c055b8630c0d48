"""Stable Diffusion 2.1 (768 pixels, v-prediction) with the paper's schedule."""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

SD15 = Path(__file__).with_name("sd15.py")


def get_config() -> ConfigDict:
    config = load_config(SD15)
    config.model = "stabilityai/stable-diffusion-2-1"
    config.architecture = "sd21"
    return config
