"""The last super-resolution stage of `flatland-imagen`: 64 -> 128 pixels; Imagic leaves it alone.

As the first one, at a trunk of 32 x 32: it only draws edges sharper, and few channels do.
"""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

SR1 = Path(__file__).with_name("flatland_imagen_sr1.py")


def get_config() -> ConfigDict:
    config = load_config(SR1)
    config.name = "flatland_imagen_sr2"
    config.stage.update({"name": "sr2", "size": 128, "tune": False})
    config.stage.low_res.size = 64
    config.unet.update({"sample_size": 32, "block_out_channels": (64, 64)})
    config.data.batch = 12
    config.recipe.steps = 2000
    return config
