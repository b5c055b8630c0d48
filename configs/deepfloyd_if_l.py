"""DeepFloyd IF with its L base and large second stage; otherwise as `deepfloyd_if_m`."""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

MEDIUM = Path(__file__).with_name("deepfloyd_if_m.py")


def get_config() -> ConfigDict:
    config = load_config(MEDIUM)
    config.model = (
        "DeepFloyd/IF-I-L-v1.0,DeepFloyd/IF-II-L-v1.0,stabilityai/stable-diffusion-x4-upscaler"
    )
    config.architecture = "if_i_l,if_ii_l,x4"
    return config
