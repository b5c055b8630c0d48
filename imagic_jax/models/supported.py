"""What a UNet config may ask for; the rest is refused by name."""

from collections.abc import Mapping
from typing import Any


class UnsupportedConfig(ValueError):
    """A config asks for something these networks do not implement; the message names it."""


# Every level of a UNet is one of these: what attends there, and how the level changes resolution
# ("conv": one strided or up-sampling convolution; "resnet": a residual block with pooling inside).
DOWN_BLOCKS = {
    "DownBlock2D": (None, "conv"),
    "CrossAttnDownBlock2D": ("transformer", "conv"),
    "ResnetDownsampleBlock2D": (None, "resnet"),
    "SimpleCrossAttnDownBlock2D": ("added_kv", "resnet"),
}
UP_BLOCKS = {
    "UpBlock2D": (None, "conv"),
    "CrossAttnUpBlock2D": ("transformer", "conv"),
    "ResnetUpsampleBlock2D": (None, "resnet"),
    "SimpleCrossAttnUpBlock2D": ("added_kv", "resnet"),
}
MID_BLOCKS = {
    "UNetMidBlock2DCrossAttn": "transformer",
    "UNetMidBlock2DSimpleCrossAttn": "added_kv",
}
ACTIVATIONS = ("silu", "swish", "gelu", "relu")

# Options with only some of diffusers' values implemented: key -> the values that are.
_SUPPORTED: dict[str, tuple[Any, ...]] = {
    "act_fn": ACTIVATIONS,
    "addition_embed_type": (None, "text", "text_time"),
    "attention_type": ("default",),
    "class_embed_type": (None, "timestep"),
    "class_embeddings_concat": (False, None),
    "conv_in_kernel": (3,),
    "conv_out_kernel": (3,),
    "cross_attention_norm": (None, "group_norm"),
    "downsample_padding": (1,),
    "dual_cross_attention": (False, None),
    "encoder_hid_dim_type": (None, "text_proj"),
    "mid_block_type": tuple(MID_BLOCKS),
    "num_attention_heads": (None,),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "reverse_transformer_layers_per_block": (None,),
    "time_cond_proj_dim": (None,),
    "time_embedding_act_fn": (None, *ACTIVATIONS),
    "time_embedding_type": ("positional", None),
    "timestep_post_act": (None,),
}


def refuse_unsupported(raw: Mapping[str, Any]) -> None:
    """Raises for the first option whose value is not implemented."""
    for key, supported in _SUPPORTED.items():
        if key in raw and raw[key] not in supported:
            allowed = ", ".join(repr(v) for v in supported)
            raise UnsupportedConfig(f"{key}={raw[key]!r} is not supported (supported: {allowed})")
    if "norm_num_groups" in raw and raw["norm_num_groups"] is None:
        raise UnsupportedConfig("norm_num_groups=None is not supported")
    for key, table in (("down_block_types", DOWN_BLOCKS), ("up_block_types", UP_BLOCKS)):
        for name in raw.get(key) or ():
            if name not in table:
                raise UnsupportedConfig(
                    f"{key} holds {name!r}, which is not supported (supported: {', '.join(table)})"
                )
    if isinstance(raw.get("cross_attention_dim"), list):
        raise UnsupportedConfig(
            f"cross_attention_dim={raw['cross_attention_dim']!r}: one number "
            "for all levels is supported, a list is not"
        )
    blocks = [*(raw.get("down_block_types") or ()), *(raw.get("up_block_types") or ())]
    if isinstance(raw.get("attention_head_dim"), list) and any("Simple" in b for b in blocks):
        # diffusers does not reverse this list for the Simple up blocks: its meaning is unclear
        raise UnsupportedConfig(
            f"attention_head_dim={raw['attention_head_dim']!r}: a list is not "
            "supported together with Simple cross-attention blocks"
        )
