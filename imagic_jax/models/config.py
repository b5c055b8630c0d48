"""The UNet's configuration, read from diffusers' `config.json`.

A configuration is a frozen, hashable dataclass. Keys that a (often old) file lacks take diffusers'
defaults, booleans may be null, and per-level values are spread to one entry per level. What a file
asks for and the networks here cannot do is refused by name (`UnsupportedConfig`): a silently
ignored option would give a network that runs and is wrong.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imagic_jax.models.supported import (
    DOWN_BLOCKS,
    MID_BLOCKS,
    UP_BLOCKS,
    UnsupportedConfig,
    refuse_unsupported,
)


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """Static structure of a `UNet2DCondition`; build it with `from_dict`.

    Names and meanings are diffusers' `UNet2DConditionModel`'s, with two differences: per-level
    options are always tuples with one entry per level (in down order), and `patch_size` is ours
    (pixels are moved to channels p x p at a time *before* the network; it ignores the value).
    `attention_head_dim` keeps diffusers' ambiguity: the number of heads in transformer blocks, the
    width of a head in the Simple (added-KV) blocks.
    """

    sample_size: int | tuple[int, int] | None = None
    in_channels: int = 4
    out_channels: int = 4
    center_input_sample: bool = False
    flip_sin_to_cos: bool = True
    freq_shift: float = 0.0
    down_block_types: tuple[str, ...] = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
    mid_block_type: str = "UNetMidBlock2DCrossAttn"
    up_block_types: tuple[str, ...] = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: tuple[int, ...] = (2, 2, 2, 2)
    attention_head_dim: tuple[int, ...] = (8, 8, 8, 8)
    transformer_layers_per_block: tuple[int, ...] = (1, 1, 1, 1)
    only_cross_attention: tuple[bool, ...] = (False, False, False, False)
    mid_block_only_cross_attention: bool = False
    mid_block_scale_factor: float = 1.0
    act_fn: str = "silu"
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    cross_attention_norm: str | None = None
    use_linear_projection: bool = False
    encoder_hid_dim: int | None = None
    class_embed_type: str | None = None
    num_class_embeds: int | None = None
    addition_embed_type: str | None = None
    addition_embed_type_num_heads: int = 64
    addition_time_embed_dim: int | None = None
    projection_class_embeddings_input_dim: int | None = None
    resnet_time_scale_shift: str = "default"
    resnet_skip_time_act: bool = False
    resnet_out_scale_factor: float = 1.0
    time_embedding_dim: int | None = None
    time_embedding_act_fn: str | None = None
    patch_size: int = 1

    @property
    def levels(self) -> int:
        """Number of resolutions."""
        return len(self.block_out_channels)

    @property
    def time_embed_dim(self) -> int:
        """Width of the time embedding."""
        return self.time_embedding_dim or 4 * self.block_out_channels[0]

    @property
    def text_dim(self) -> int:
        """Width of the `encoder_hidden_states` that the network takes."""
        return self.encoder_hid_dim or self.cross_attention_dim

    @property
    def time_id_dim(self) -> int:
        """Width of each size and crop number's sinusoid (SDXL); 0 where there are none."""
        return self.addition_time_embed_dim or 0

    @property
    def pooled_dim(self) -> int:
        """Width of the pooled text (SDXL); 0 where it is not read."""
        return max((self.projection_class_embeddings_input_dim or 0) - 6 * self.time_id_dim, 0)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "UNetConfig":
        """Reads a diffusers UNet `config.json`.

        Raises:
          UnsupportedConfig: an option of the file is not implemented, named in the message.
        """
        refuse_unsupported(raw)
        known = {f: raw[f] for f in cls.__dataclass_fields__ if raw.get(f) is not None}
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in known.items()
        }
        levels = len(values.get("block_out_channels", cls.block_out_channels))
        for name in _PER_LEVEL:
            values[name] = _per_level(name, values.get(name, getattr(cls, name)[0]), levels)
        if "mid_block_only_cross_attention" not in values:
            # diffusers: one boolean for the network includes the middle, a list leaves it out
            whole = raw.get("only_cross_attention")
            values["mid_block_only_cross_attention"] = whole if isinstance(whole, bool) else False
        for name, field in cls.__dataclass_fields__.items():
            if field.type is float and name in values:
                values[name] = float(values[name])
        config = cls(**values)
        _check_consistent(config)
        return config


_PER_LEVEL = (
    "layers_per_block",
    "attention_head_dim",
    "transformer_layers_per_block",
    "only_cross_attention",
)


def _per_level(name: str, value: Any, levels: int) -> tuple[Any, ...]:
    """One entry per level; a lone value serves all of them."""
    values = value if isinstance(value, tuple) else (value,) * levels
    if len(values) != levels:
        raise UnsupportedConfig(f"{name} has {len(values)} entries for {levels} levels: {value!r}")
    if any(isinstance(v, list | tuple) for v in values):
        raise UnsupportedConfig(f"{name}={value!r}: nested lists are not supported")
    return values


def _check_consistent(config: UNetConfig) -> None:
    """Raises if parts of a config that must agree do not."""
    for name in ("down_block_types", "up_block_types"):
        if len(getattr(config, name)) != config.levels:
            raise UnsupportedConfig(
                f"{name} has {len(getattr(config, name))} entries, block_out_channels "
                f"{config.levels}: they must be as many"
            )
    for channels in config.block_out_channels:
        if channels % config.norm_num_groups:
            raise UnsupportedConfig(
                f"block_out_channels={config.block_out_channels} cannot be split into "
                f"norm_num_groups={config.norm_num_groups} groups"
            )
    both = zip(config.down_block_types, reversed(config.up_block_types), strict=True)
    attends = [DOWN_BLOCKS[down][0] or UP_BLOCKS[up][0] for down, up in both]
    attends[-1] = MID_BLOCKS[config.mid_block_type]
    for channels, size, kind in zip(
        config.block_out_channels, config.attention_head_dim, attends, strict=True
    ):
        if kind and channels % size:
            raise UnsupportedConfig(
                f"attention_head_dim={size} does not divide {channels} channels"
            )
    if config.cross_attention_norm == "group_norm" and config.cross_attention_dim % 32:
        raise UnsupportedConfig(
            "cross_attention_norm='group_norm' needs a cross_attention_dim that is a multiple of "
            f"32, got {config.cross_attention_dim}"
        )
    if (
        config.addition_embed_type == "text"
        and config.text_dim % config.addition_embed_type_num_heads
    ):
        raise UnsupportedConfig(
            f"addition_embed_type_num_heads={config.addition_embed_type_num_heads} does not divide "
            f"the {config.text_dim} channels of the text"
        )
    if config.addition_embed_type == "text_time" and (
        config.addition_time_embed_dim is None
        or config.projection_class_embeddings_input_dim is None
    ):
        raise UnsupportedConfig(
            "addition_embed_type='text_time' needs addition_time_embed_dim and "
            "projection_class_embeddings_input_dim"
        )
