"""Recorded PyTorch networks: tiny configs, random weights, inputs and outputs."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from imagic_jax.models import T5Config, T5Encoder, UNet2DCondition, UNetConfig
from imagic_jax.weights.layout import slots, unflatten

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
UNETS = ("sd1", "sd2", "sdxl", "x4", "if_i", "if_ii", "if_ii_only_cross")


@dataclass(frozen=True)
class Recorded:
    """A network with recorded weights, its inputs, and the outputs that PyTorch gave."""

    module: Any
    params: dict[str, Any]
    args: tuple[jax.Array, ...]
    kwargs: dict[str, jax.Array]
    outputs: dict[str, np.ndarray]


def _params(
    module: Any, weights: dict[str, np.ndarray], conv_names: Any, *args: Any, **kwargs: Any
):
    shapes = jax.eval_shape(module.init, jax.random.key(0), *args, **kwargs)["params"]
    table = slots(shapes, conv_names)
    assert set(table) == set(weights)
    leaves = {s.path: jnp.asarray(s.from_torch(weights[k]), module.dtype) for k, s in table.items()}
    return unflatten(leaves)


@pytest.fixture(scope="session")
def recorded_unet() -> Callable[..., Recorded]:
    """Function (flavour, dtype) -> Recorded, pictures in NHWC."""

    @functools.cache
    def load(name: str, dtype: Any = jnp.float32) -> Recorded:
        config = UNetConfig.from_dict(json.loads((PARITY / f"unet_{name}.json").read_text()))
        arrays = dict(np.load(PARITY / f"unet_{name}.npz"))
        arrays = {k: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for k, v in arrays.items()}
        inputs = {
            k[3:]: jnp.asarray(v, dtype if v.dtype.kind == "f" else jnp.int32)
            for k, v in arrays.items()
            if k.startswith("in_")
        }
        args = tuple(inputs.pop(k) for k in ("sample", "timestep", "encoder_hidden_states"))
        module = UNet2DCondition(config, dtype)
        weights = load_file(PARITY / f"unet_{name}.safetensors")
        conv_names = () if config.use_linear_projection else ("proj_in", "proj_out")
        params = _params(module, weights, conv_names, *args, **inputs)
        outputs = {k: v for k, v in arrays.items() if k.startswith("out_")}
        return Recorded(module, params, args, inputs, outputs)

    return load


@pytest.fixture(scope="session")
def recorded_t5() -> Callable[..., Recorded]:
    """Function (dtype) -> Recorded for the T5 encoder."""

    def load(dtype: Any = jnp.float32) -> Recorded:
        config = T5Config.from_dict(json.loads((PARITY / "t5_encoder.json").read_text()))
        arrays = dict(np.load(PARITY / "t5_encoder.npz"))
        args = tuple(
            jnp.asarray(arrays[f"in_{k}"], jnp.int32) for k in ("input_ids", "attention_mask")
        )
        module = T5Encoder(config, dtype)
        params = _params(module, load_file(PARITY / "t5_encoder.safetensors"), (), *args)
        return Recorded(module, params, args, {}, arrays)

    return load


@pytest.fixture(scope="session")
def small_unet() -> Callable[..., Recorded]:
    """Function (added_kv, dtype) -> a two-level UNet with random weights, quick to compile."""

    def build(added_kv: bool, dtype: Any = jnp.float32) -> Recorded:
        attend, plain = ("SimpleCrossAttn", "Resnet") if added_kv else ("CrossAttn", "")
        config = UNetConfig.from_dict(
            {
                "block_out_channels": [8, 16],
                "layers_per_block": 1,
                "norm_num_groups": 4,
                "attention_head_dim": 4,
                "cross_attention_dim": 32,
                "down_block_types": [
                    f"{plain}DownsampleBlock2D" if plain else "DownBlock2D",
                    f"{attend}DownBlock2D",
                ],
                "mid_block_type": f"UNetMidBlock2D{attend}",
                "up_block_types": [
                    f"{attend}UpBlock2D",
                    f"{plain}UpsampleBlock2D" if plain else "UpBlock2D",
                ],
            }
            | (
                {
                    "encoder_hid_dim": 12,
                    "addition_embed_type": "text",
                    "addition_embed_type_num_heads": 2,
                    "cross_attention_norm": "group_norm",
                    "resnet_time_scale_shift": "scale_shift",
                }
                if added_kv
                else {}
            )
        )
        rng = np.random.default_rng(0)
        sample, text = (
            jnp.asarray(rng.normal(size=shape), jnp.float32)
            for shape in ((2, 8, 8, 4), (2, 5, config.text_dim))
        )
        args = (sample, jnp.asarray([3, 700]), text)
        module = UNet2DCondition(config, dtype)
        shapes = jax.eval_shape(module.init, jax.random.key(0), *args)["params"]
        # every parameter random, so that none is without effect
        params = jax.tree.map(lambda p: jnp.asarray(rng.normal(0, 0.2, p.shape), p.dtype), shapes)
        return Recorded(module, params, args, {}, {})

    return build
