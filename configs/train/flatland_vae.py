"""The autoencoder of `flatland-sd`: 64 x 64 pixels to 16 x 16 latents of 4 channels and back.

It sees identity marks and the wide law of test pictures: whatever an edit shall keep has to pass
through it.
"""

from ml_collections import ConfigDict

VAE = {
    "_class_name": "AutoencoderKL",
    "sample_size": 64,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "act_fn": "silu",
    "block_out_channels": (16, 32, 64),  # a decode at full size is what costs
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "layers_per_block": 1,
    "norm_num_groups": 8,
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "flatland_vae"
    config.kind = "vae"
    config.model = "flatland-sd"
    config.seed = 0
    config.max_length = 24  # tokens
    config.captions = 4096  # rows of the caption table, per class
    config.vae = ConfigDict(VAE)
    config.loss = ConfigDict({"squared": 5.0, "kl": 1e-3})
    config.data = ConfigDict(
        {"size": 64, "batch": 12, "mark_share": 0.75, "wide_share": 0.5, "oversample": 1}
    )
    config.recipe = ConfigDict(
        {
            "steps": 4000,
            "learning_rate": 2e-3,
            "warmup": 200,
            "decay": 0.4,
            "clip": 1.0,
            "ema": 0.995,
        }
    )
    config.save_every = 300.0  # seconds
    config.sheet_every = 600.0
    return config
