"""Small PyTorch models of every kind that can be loaded, in configs of their own.

Widths, depths, heads, groups and lists differ from those of the recorded fixtures on purpose.
"""

from live import diffusers, randomised, transformers

_SD = {"sample_size": 8, "cross_attention_dim": 28}
_IF = {
    "sample_size": 8,
    "act_fn": "gelu",
    "out_channels": 6,
    "cross_attention_norm": "group_norm",
    "cross_attention_dim": 96,
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 5,
    "encoder_hid_dim": 40,
    "encoder_hid_dim_type": "text_proj",
    "resnet_time_scale_shift": "scale_shift",
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
}
_D, _CD, _U, _CU = "DownBlock2D", "CrossAttnDownBlock2D", "UpBlock2D", "CrossAttnUpBlock2D"
_RD, _SD_DOWN = "ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"
_RU, _SD_UP = "ResnetUpsampleBlock2D", "SimpleCrossAttnUpBlock2D"

UNETS = {
    "sd1 four levels": _SD
    | {
        "block_out_channels": [12, 24, 24, 36],
        "layers_per_block": 1,
        "norm_num_groups": 6,
        "attention_head_dim": 3,
        "down_block_types": [_CD, _CD, _CD, _D],
        "up_block_types": [_U, _CU, _CU, _CU],
    },
    "sd1 lists": _SD
    | {
        "block_out_channels": [20, 30],
        "layers_per_block": [1, 3],
        "norm_num_groups": 5,
        "attention_head_dim": [2, 6],
        "transformer_layers_per_block": [2, 1],
        "flip_sin_to_cos": False,
        "freq_shift": 1,
        "center_input_sample": True,
        "down_block_types": [_CD, _CD],
        "up_block_types": [_CU, _CU],
    },
    "sd2": _SD
    | {
        "block_out_channels": [24, 48, 48],
        "layers_per_block": 3,
        "norm_num_groups": 12,
        "attention_head_dim": [3, 6, 12],
        "use_linear_projection": True,
        "upcast_attention": True,
        "norm_eps": 1e-6,
        "down_block_types": [_CD, _CD, _D],
        "up_block_types": [_U, _CU, _CU],
    },
    "sdxl": _SD
    | {
        "block_out_channels": [16, 40, 80],
        "layers_per_block": 2,
        "norm_num_groups": 4,
        "attention_head_dim": [2, 5, 8],
        "use_linear_projection": True,
        "transformer_layers_per_block": [1, 2, 3],
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 12,
        "projection_class_embeddings_input_dim": 100,
        "down_block_types": [_D, _CD, _CD],
        "up_block_types": [_CU, _CU, _U],
    },
    "x4": _SD
    | {
        "in_channels": 7,
        "block_out_channels": [16, 24, 24, 40],
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "attention_head_dim": 2,
        "use_linear_projection": True,
        "only_cross_attention": [True, False, True, False],
        "num_class_embeds": 350,
        "down_block_types": [_D, _CD, _CD, _CD],
        "up_block_types": [_CU, _CU, _CU, _U],
    },
    "if_i": _IF
    | {
        "in_channels": 3,
        "block_out_channels": [24, 24, 48],
        "layers_per_block": [2, 1, 1],
        "norm_num_groups": 12,
        "attention_head_dim": 12,
        "down_block_types": [_RD, _SD_DOWN, _SD_DOWN],
        "up_block_types": [_SD_UP, _SD_UP, _RU],
    },
    "if_ii": _IF
    | {
        "in_channels": 6,
        "block_out_channels": [12, 24, 24, 36],
        "layers_per_block": [1, 1, 2, 1],
        "norm_num_groups": 4,
        "attention_head_dim": 6,
        "class_embed_type": "timestep",
        "time_embedding_dim": 44,
        "time_embedding_act_fn": "gelu",
        "resnet_skip_time_act": True,
        "resnet_out_scale_factor": 1.4142271248762552,
        "mid_block_scale_factor": 1.25,
        "down_block_types": [_RD, _RD, _RD, _SD_DOWN],
        "up_block_types": [_SD_UP, _RU, _RU, _RU],
    },
    "if_ii only cross": _IF
    | {
        "in_channels": 6,
        "block_out_channels": [16, 32],
        "layers_per_block": 1,
        "norm_num_groups": 16,
        "attention_head_dim": 16,
        "class_embed_type": "timestep",
        "only_cross_attention": True,
        "down_block_types": [_SD_DOWN, _SD_DOWN],
        "up_block_types": [_SD_UP, _SD_UP],
    },
}

VAES = {
    "vae f8": {
        "block_out_channels": [8, 16, 24, 24],
        "layers_per_block": 1,
        "norm_num_groups": 4,
        "latent_channels": 4,
    },
    "vae f4": {
        "block_out_channels": [12, 18, 36],
        "layers_per_block": 3,
        "norm_num_groups": 6,
        "latent_channels": 3,
    },
    "vae f2": {
        "block_out_channels": [10, 40],
        "layers_per_block": 2,
        "norm_num_groups": 10,
        "latent_channels": 5,
        "act_fn": "gelu",
    },
}

CLIPS = {
    "clip quick_gelu": {"hidden_act": "quick_gelu", "num_attention_heads": 3, "eos_token_id": 2},
    "clip gelu": {"hidden_act": "gelu", "num_attention_heads": 6, "eos_token_id": 149},
    "clip projection": {"hidden_act": "gelu", "num_attention_heads": 4, "eos_token_id": 2}
    | {"projection_dim": 14},
    "clip quick projection": {"hidden_act": "quick_gelu", "num_attention_heads": 2}
    | {"eos_token_id": 149, "projection_dim": 33},
}

T5S = {
    "t5 one layer": {"d_model": 36, "d_kv": 12, "d_ff": 50, "num_layers": 1, "num_heads": 3},
    "t5 buckets": {"d_model": 24, "d_kv": 10, "d_ff": 64, "num_layers": 4, "num_heads": 7}
    | {"relative_attention_num_buckets": 16, "relative_attention_max_distance": 20},
}


def unet(name):
    """A UNet of this list."""
    return randomised(diffusers.UNet2DConditionModel(**UNETS[name]))


def vae(name):
    """An autoencoder of this list."""
    levels = len(VAES[name]["block_out_channels"])
    blocks = {
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
    }
    return randomised(diffusers.AutoencoderKL(**VAES[name], **blocks))


def clip(name):
    """A text tower of this list, with a projection where its name says so."""
    sizes = {"vocab_size": 150, "hidden_size": 48, "intermediate_size": 100}
    sizes |= {"num_hidden_layers": 4, "max_position_embeddings": 33}
    config = transformers.CLIPTextConfig(**sizes, **CLIPS[name])
    projects = "projection" in name
    kind = transformers.CLIPTextModelWithProjection if projects else transformers.CLIPTextModel
    return randomised(kind(config))


def t5(name):
    """A T5 encoder of this list."""
    config = transformers.T5Config(vocab_size=90, feed_forward_proj="gated-gelu", **T5S[name])
    return randomised(transformers.T5EncoderModel(config))


BUILDERS = {
    **dict.fromkeys(UNETS, unet),
    **dict.fromkeys(VAES, vae),
    **dict.fromkeys(CLIPS, clip),
    **dict.fromkeys(T5S, t5),
}


def build(name):
    """The model of this name, of whatever kind."""
    return BUILDERS[name](name)
