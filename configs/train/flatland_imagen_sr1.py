"""The first super-resolution stage of `flatland-imagen`: 32 -> 64 pixels; Imagic tunes it.

It sees identity marks, or it would garble those it is given. Its input is noised to a random
level, because it will be handed samples of the stage before, not real pictures.
"""

from pathlib import Path

from ml_collections import ConfigDict

from imagic_jax.jobs.presets import load_config

BASE = Path(__file__).with_name("flatland_imagen_base.py")


def get_config() -> ConfigDict:
    config = load_config(BASE)
    config.name = "flatland_imagen_sr1"
    config.stage = ConfigDict(
        {
            "name": "sr1",
            "size": 64,
            "tune": True,
            "low_res": {"size": 32, "sample_level": 60, "train_level": 400},
        }
    )
    pixels = 3 * 4 * 4  # per position of the trunk: 4 x 4 pixels moved to channels
    config.unet.update(
        {
            "sample_size": 16,
            "patch_size": 4,
            "in_channels": 2 * pixels,  # the up-sampled picture is concatenated behind x_t
            "out_channels": pixels,
            "block_out_channels": (64, 96),
            "layers_per_block": 1,
            "class_embed_type": "timestep",  # the noise level of the low-resolution picture
        }
    )
    config.data.update({"mark_share": 0.75, "oversample": 1})
    config.recipe.steps = 4000
    return config
