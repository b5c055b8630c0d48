"""The UNet of `flatland-sd`: Stable Diffusion's, on 16 x 16 x 4 latents of 64 x 64 pixels.

Blocks, schedule and folder are those of Stable Diffusion; as in SDXL, the first level, where
attention is dear, has none. The network predicts v, as Stable Diffusion 2.1 does: at high noise,
where the schedule spends most of its levels, v asks for the picture itself.
"""

from ml_collections import ConfigDict

SCHEDULER = {
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "num_train_timesteps": 1000,
    "prediction_type": "v_prediction",
    "max_loss_weight": 5.0,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
}

UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "act_fn": "silu",
    "attention_head_dim": 4,  # the number of heads
    "block_out_channels": (64, 112),
    "cross_attention_dim": 128,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "layers_per_block": (2, 1),
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "norm_eps": 1e-5,
    "norm_num_groups": 16,
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "use_linear_projection": True,
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "flatland_sd"
    config.kind = "latent"
    config.model = "flatland-sd"
    config.clip = "flatland-clip"  # the model whose text tower is read
    config.seed = 0
    config.max_length = 24  # tokens
    config.captions = 4096  # rows of the caption table, per class
    config.stage = ConfigDict({"name": "base", "size": 64, "tune": True})
    config.unet = ConfigDict(UNET)
    config.scheduler = ConfigDict(SCHEDULER)
    config.data = ConfigDict(
        {"batch": 24, "mark_share": 0.0, "text_dropout": 0.12, "oversample": 1}
    )
    config.recipe = ConfigDict(
        {
            "steps": 8600,
            "learning_rate": 1e-3,
            "warmup": 500,
            "decay": 0.3,
            "clip": 1.0,
            "ema": 0.999,
        }
    )
    config.save_every = 300.0  # seconds
    config.sheet_every = 900.0
    return config
