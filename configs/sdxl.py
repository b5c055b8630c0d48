"""Stable Diffusion XL (1024 pixels) with the paper's schedule for Stable Diffusion."""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

SD15 = Path(__file__).with_name("sd15.py")


def get_config() -> ConfigDict:
    config = load_config(SD15)
    config.model = "stabilityai/stable-diffusion-xl-base-1.0"
    config.architecture = "sdxl"
    return config
