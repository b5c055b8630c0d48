"""A tiny random cascade on disk: the real code paths in seconds."""

import functools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.backbones.codecs import Pixels
from imagic_jax.backbones.stages import LowRes, UNetStage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.flatland import captions
from imagic_jax.models import T5Config, T5Encoder, UNet2DCondition, UNetConfig
from imagic_jax.training.export import NOISING, export_stage, export_text
from imagic_jax.training.tasks import init_stage
from imagic_jax.weights.tokenizer import save_word_level

CONFIGS = Path(__file__).parent.parent / "configs"
WIDTH, LENGTH = 32, 12


def text_config() -> dict:
    return {
        "architectures": ["T5EncoderModel"],
        "model_type": "t5",
        "vocab_size": 96,
        "d_model": WIDTH,
        "d_kv": 8,
        "d_ff": 32,
        "num_layers": 1,
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 16,
        "feed_forward_proj": "gated-gelu",
        "layer_norm_epsilon": 1e-6,
    }


def unet_config(size: int, patch: int, super_resolution: bool) -> dict:
    pixels = 3 * patch * patch
    config = {
        "_class_name": "UNet2DConditionModel",
        "sample_size": size // patch,
        "patch_size": patch,
        "in_channels": pixels * (2 if super_resolution else 1),
        "out_channels": pixels,
        "act_fn": "silu",
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 2,
        "attention_head_dim": 8,
        "block_out_channels": [16],
        "cross_attention_dim": 32,
        "cross_attention_norm": "group_norm",
        "down_block_types": ["SimpleCrossAttnDownBlock2D"],
        "encoder_hid_dim": WIDTH,
        "encoder_hid_dim_type": "text_proj",
        "layers_per_block": 1,
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
        "norm_num_groups": 4,
        "resnet_time_scale_shift": "scale_shift",
        "up_block_types": ["SimpleCrossAttnUpBlock2D"],
    }
    if super_resolution:
        config["class_embed_type"] = "timestep"
    return config


SCHEDULER = {
    "beta_schedule": "squaredcos_cap_v2",
    "prediction_type": "sample",
    "max_loss_weight": 5.0,
    "clip_sample": True,
}
STAGES = (
    {"name": "base", "size": 16, "tune": True},
    {
        "name": "sr1",
        "size": 32,
        "tune": True,
        "low_res": {"size": 16, "sample_level": 50, "train_level": 200},
    },
    {
        "name": "sr2",
        "size": 64,
        "tune": False,
        "low_res": {"size": 32, "sample_level": 50, "train_level": 200},
    },
)
PATCH = {"base": 2, "sr1": 4, "sr2": 8}


def random_params(shapes, seed: int):
    """Random values everywhere, so that no residual branch is silent; nothing is compiled."""
    rng = np.random.default_rng(seed)

    def fill(path, a):
        values = rng.standard_normal(a.shape).astype(np.float32)
        name = path[-1].key
        if name in ("scale", "weight") and len(a.shape) == 1:
            return 1.0 + 0.05 * values
        return 0.05 * values if len(a.shape) == 1 else values / np.sqrt(np.prod(a.shape[:-1]))

    return jax.tree_util.tree_map_with_path(fill, shapes)


def make_stage(row: dict) -> UNetStage:
    """A tiny stage, as `imagen.open_stage` would build it."""
    low_res = row.get("low_res")
    return UNetStage(
        row["name"],
        row["size"],
        UNet2DCondition(
            UNetConfig.from_dict(unet_config(row["size"], PATCH[row["name"]], bool(low_res)))
        ),
        Schedule.from_config(SCHEDULER),
        Pixels(PATCH[row["name"]]),
        LowRes(schedule=Schedule.from_config(NOISING), **low_res) if low_res else None,
    )


def write_cascade(folder: Path) -> Path:
    """Writes the tiny cascade in the shipped layout; returns the folder."""
    save_word_level(folder / "base" / "tokenizer", captions.vocabulary(), LENGTH)
    text = T5Encoder(T5Config.from_dict(text_config()))
    ids = jnp.zeros((1, LENGTH), jnp.int32)
    key = jax.random.key(0)
    text_params = random_params(jax.eval_shape(text.init, key, ids, ids)["params"], 0)
    states = jnp.zeros((1, LENGTH, WIDTH))
    for i, row in enumerate(STAGES):
        shapes = jax.eval_shape(functools.partial(init_stage, make_stage(row)), key, states)
        params = random_params(shapes, i)
        config = {
            "model": "tiny",
            "base": "base",
            "stage": row,
            "unet": unet_config(row["size"], PATCH[row["name"]], i > 0),
            "text": text_config(),
            "scheduler": SCHEDULER,
        }
        if i == 0:
            export_text(folder, config, text_params, {"steps": 0})
        export_stage(folder, config, params, {"steps": 0})
    return folder


if __name__ == "__main__":
    print(write_cascade(Path(sys.argv[1])))
