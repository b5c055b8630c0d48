"""Configs: defaults, old files, and refusals by name; sizes of the published networks."""

import json
import math
from pathlib import Path

import jax
import pytest

from imagic_jax.models import T5Config, UNetConfig, UnsupportedConfig
from imagic_jax.weights.families import family_of, parameter_shapes

FULL = Path(__file__).parents[2] / "configs" / "architectures"


def _full(part):
    return json.loads((FULL / part / "config.json").read_text())


# Millions of parameters, counted by PyTorch.
@pytest.mark.parametrize(
    ("part", "millions"),
    [
        ("sd15/unet", 859.5),
        ("sd21/unet", 865.9),
        ("sdxl/unet", 2567.5),
        ("x4/unet", 473.4),
        ("if_i_m/unet", 371.6),
        ("if_i_l/unet", 935.4),
        ("if_i_xl/unet", 4304.7),
        ("if_ii_m/unet", 482.5),
        ("if_ii_l/unet", 1243.3),
        ("if_i_m/text_encoder", 4762.3),
        ("sd21_base/unet", 865.9),
        ("sd15/text_encoder", 123.1),
        ("sd21/text_encoder", 340.4),
        ("sdxl/text_encoder_2", 694.7),
        ("sd15/vae", 83.7),
        ("x4/vae", 55.3),
    ],
)
def test_published_networks_have_their_number_of_parameters(part, millions):
    config = _full(part)
    family = family_of(config)
    module = family.build(config, "float32")
    shapes = parameter_shapes(module, family.inputs(module))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
    assert round(count / 1e6, 1) == millions


def test_missing_keys_take_diffusers_defaults_and_nulls_are_false():
    assert UNetConfig.from_dict({}) == UNetConfig()
    config = UNetConfig.from_dict(
        {"upcast_attention": None, "use_linear_projection": None, "_diffusers_version": "0.6.0"}
    )
    assert config == UNetConfig()
    assert isinstance(hash(config), int)


def test_values_are_spread_to_one_per_level():
    config = UNetConfig.from_dict(_full("sd15/unet") | {"patch_size": 2})
    assert config.attention_head_dim == (8, 8, 8, 8)
    assert config.layers_per_block == (2, 2, 2, 2)
    assert config.patch_size == 2


@pytest.mark.parametrize(("value", "middle"), [(True, True), ([True, True, True, False], False)])
def test_only_cross_attention_includes_the_middle_only_where_it_is_one_value(value, middle):
    config = UNetConfig.from_dict(_full("if_i_m/unet") | {"only_cross_attention": value})
    assert config.mid_block_only_cross_attention is middle


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dual_cross_attention", True),
        ("attention_type", "gated"),
        ("time_embedding_type", "fourier"),
        ("class_embeddings_concat", True),
        ("class_embed_type", "projection"),
        ("addition_embed_type", "text_image"),
        ("encoder_hid_dim_type", "image_proj"),
        ("cross_attention_norm", "layer_norm"),
        ("num_attention_heads", 8),
        ("time_cond_proj_dim", 256),
        ("timestep_post_act", "silu"),
        ("downsample_padding", 0),
        ("conv_in_kernel", 7),
        ("act_fn", "mish"),
        ("norm_num_groups", None),
        ("cross_attention_dim", [768, 768, 768, 768]),
        ("down_block_types", ["KDownBlock2D"] * 4),
        ("up_block_types", ["KUpBlock2D"] * 4),
        ("mid_block_type", "UNetMidBlock2D"),
        ("transformer_layers_per_block", [[1, 1], [2, 2], [1, 1], [1, 1]]),
        ("reverse_transformer_layers_per_block", [1, 1, 1, 1]),
        ("layers_per_block", [2, 2]),
        ("block_out_channels", [320, 640, 1280]),
        ("norm_num_groups", 48),
        ("addition_embed_type", "text_time"),
        ("attention_head_dim", 7),
    ],
)
def test_what_is_not_supported_is_refused_by_name(key, value):
    with pytest.raises(UnsupportedConfig, match=key):
        UNetConfig.from_dict(_full("sd15/unet") | {key: value})


def test_lists_of_head_sizes_are_refused_for_simple_blocks():
    with pytest.raises(UnsupportedConfig, match=r"attention_head_dim.*Simple"):
        UNetConfig.from_dict(_full("if_i_m/unet") | {"attention_head_dim": [64, 64, 64, 64]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cross_attention_dim", 760),
        ("addition_embed_type_num_heads", 60),
        ("attention_head_dim", 96),
    ],
)
def test_sizes_that_do_not_divide_are_refused_by_name(key, value):
    with pytest.raises(UnsupportedConfig, match=key):
        UNetConfig.from_dict(_full("if_i_l/unet") | {key: value})


def test_t5_of_version_1_0_is_refused():
    with pytest.raises(UnsupportedConfig, match="feed_forward_proj='relu'"):
        T5Config.from_dict({"d_model": 512, "feed_forward_proj": "relu"})
