"""`flatland-clip`: a CLIP pair that knows Flatland; its text tower is what `flatland-sd` reads."""

from ml_collections import ConfigDict

WIDTH = 128  # of a token's states
LENGTH = 24  # tokens, start and end included
VOCABULARY = 814  # Flatland's words, their ends, 512 characters, start and end of text

TEXT = {
    "model_type": "clip_text_model",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": LENGTH,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": WIDTH,
    "bos_token_id": VOCABULARY - 2,
    "eos_token_id": VOCABULARY - 1,
    "pad_token_id": VOCABULARY - 1,
}

VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": WIDTH,
    "intermediate_size": 4 * WIDTH,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_channels": 3,
    "image_size": 64,
    "patch_size": 8,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "projection_dim": WIDTH,
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "flatland_clip"
    config.kind = "clip"
    config.model = "flatland-clip"
    config.seed = 0
    config.max_length = LENGTH
    config.captions = 4096  # rows of the caption table, per class
    config.clip = ConfigDict(
        {
            "architectures": ["CLIPModel"],
            "model_type": "clip",
            "projection_dim": WIDTH,
            "logit_scale_init_value": 2.6592,
            "text_config": TEXT,
            "vision_config": VISION,
        }
    )
    config.data = ConfigDict(
        {"batch": 96, "mark_share": 0.5, "wide_share": 0.5, "noise": 0.2, "oversample": 1}
    )
    config.recipe = ConfigDict(
        {
            "steps": 1400,
            "learning_rate": 1e-3,
            "warmup": 200,
            "decay": 0.4,
            "clip": 1.0,
            "ema": 0.995,
        }
    )
    config.save_every = 300.0  # seconds
    config.sheet_every = 600.0
    return config
