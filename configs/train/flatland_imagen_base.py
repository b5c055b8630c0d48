"""The base of `flatland-imagen`: 32 x 32 pixels, under the frozen text encoder.

Pixels are moved to channels 2 x 2 at a time, so that the trunk runs at 16 x 16, where a CPU is
fast; the network predicts x0, because a patch of noise does not fit through a narrow trunk.
"""

from ml_collections import ConfigDict

WIDTH = 128  # of a token's states

SCHEDULER = {
    "beta_schedule": "squaredcos_cap_v2",
    "num_train_timesteps": 1000,
    "prediction_type": "sample",
    "max_loss_weight": 5.0,
    "variance_type": "fixed_small",
    "clip_sample": True,
    "clip_sample_range": 1.0,
}

#: A UNet as DeepFloyd IF's, over pixels moved to channels.
UNET = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 16,
    "patch_size": 2,
    "in_channels": 12,
    "out_channels": 12,
    "act_fn": "silu",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "attention_head_dim": 32,
    "block_out_channels": (64, 128),
    "cross_attention_dim": WIDTH,
    "cross_attention_norm": "group_norm",
    "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    "encoder_hid_dim": WIDTH,
    "encoder_hid_dim_type": "text_proj",
    "layers_per_block": 2,
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "norm_num_groups": 32,
    "resnet_time_scale_shift": "scale_shift",
    "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "flatland_imagen_base"
    config.kind = "stage"
    config.model = "flatland-imagen"
    config.base = "base"  # the stage that owns the text encoder
    config.seed = 0
    config.max_length = 24  # tokens
    config.captions = 4096  # rows of the caption table, per class
    config.stage = ConfigDict({"name": "base", "size": 32, "tune": True})
    config.unet = ConfigDict(UNET)
    config.scheduler = ConfigDict(SCHEDULER)
    config.data = ConfigDict(
        {"batch": 24, "mark_share": 0.0, "text_dropout": 0.12, "oversample": 2}
    )
    config.recipe = ConfigDict(
        {
            "steps": 12000,
            "learning_rate": 1e-3,
            "warmup": 300,
            "decay": 0.3,
            "clip": 1.0,
            "ema": 0.999,
        }
    )
    config.save_every = 300.0  # seconds
    config.sheet_every = 600.0
    return config
