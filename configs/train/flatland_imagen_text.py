"""The text encoder of `flatland-imagen`: taught to tell what captions name, then frozen."""

from ml_collections import ConfigDict

TEXT = {
    "architectures": ["T5EncoderModel"],
    "model_type": "t5",
    "vocab_size": 96,
    "d_model": 128,
    "d_kv": 32,
    "d_ff": 256,
    "num_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 24,
    "feed_forward_proj": "gated-gelu",
    "dense_act_fn": "gelu_new",
    "is_gated_act": True,
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.0,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "is_encoder_decoder": True,
    "tie_word_embeddings": False,
    "use_cache": False,
}


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.name = "flatland_imagen_text"
    config.kind = "text"
    config.model = "flatland-imagen"
    config.base = "base"  # the stage whose folder holds the text encoder
    config.seed = 0
    config.max_length = 24  # tokens
    config.captions = 4096  # rows of the caption table, per class
    config.text = ConfigDict(TEXT)
    config.data = ConfigDict({"batch": 192})
    config.recipe = ConfigDict(
        {
            "steps": 3000,
            "learning_rate": 1e-3,
            "warmup": 100,
            "decay": 0.3,
            "clip": 1.0,
            "ema": 0.99,
        }
    )
    config.save_every = 300.0  # seconds
    config.sheet_every = 600.0
    return config
