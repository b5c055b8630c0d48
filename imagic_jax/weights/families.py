"""The kinds of networks a model folder can hold, told apart by its `config.json`."""

import functools
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.models import (
    AutoencoderKL,
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    T5Config,
    T5Encoder,
    UNet2DCondition,
    UNetConfig,
    VAEConfig,
)
from imagic_jax.typing import DType
from imagic_jax.weights.errors import WeightsError


def _as_is(key: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    return key, shape


@dataclass(frozen=True)
class Family:
    """How to build one kind of network and where its weights are.

    Attributes:
      stem: name of the weights file without ending.
      build: (config.json as a dict, compute dtype) -> module.
      inputs: module -> the smallest inputs it takes, as shapes by argument name.
      conv_names: config -> names of linear modules that the file keeps as 1x1 convolutions.
      modern: (key, shape) in a file, which may be old -> what today's files say.
    """

    stem: str
    build: Callable[[Mapping[str, Any], DType], nn.Module]
    inputs: Callable[[Any], dict[str, jax.ShapeDtypeStruct]]
    conv_names: Callable[[Mapping[str, Any]], Collection[str]] = lambda config: ()
    modern: Callable[[str, tuple[int, ...]], tuple[str, tuple[int, ...]]] = _as_is


def _unet_inputs(module: UNet2DCondition) -> dict[str, jax.ShapeDtypeStruct]:
    config, size = module.config, 2 ** (module.config.levels - 1)
    inputs = {
        "sample": _floats(1, size, size, config.in_channels),
        "timestep": _integers(),
        "encoder_hidden_states": _floats(1, 1, config.text_dim),
    }
    if config.class_embed_type is not None or config.num_class_embeds is not None:
        inputs["class_labels"] = _integers(1)
    if config.addition_embed_type == "text_time":
        inputs |= {"text_embeds": _floats(1, config.pooled_dim), "time_ids": _floats(1, 6)}
    return inputs


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _integers(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.int32)


def _clip_inputs(module: CLIPTextModel) -> dict[str, jax.ShapeDtypeStruct]:
    return {"input_ids": _integers(1, module.config.max_position_embeddings)}


def _pair_inputs(module: CLIPModel) -> dict[str, jax.ShapeDtypeStruct]:
    config = module.config
    return {
        "input_ids": _integers(1, config.text.max_position_embeddings),
        "pixel_values": _floats(1, config.vision.image_size, config.vision.image_size, 3),
    }


def _vision_inputs(module: CLIPVisionModel) -> dict[str, jax.ShapeDtypeStruct]:
    return {"pixel_values": _floats(1, module.config.image_size, module.config.image_size, 3)}


def _vae_inputs(module: AutoencoderKL) -> dict[str, jax.ShapeDtypeStruct]:
    size = module.config.factor
    return {"image": _floats(1, size, size, module.config.in_channels)}


def _modern_clip(key: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """transformers 5 writes `CLIPTextModel` without its prefix."""
    if key.startswith(("text_model.", "text_projection.")):
        return key, shape
    return f"text_model.{key}", shape


_OLD_VAE = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
_VAE_ATTENTION = re.compile(r"(.*mid_block\.attentions\.0)\.([a-z_]+)((?:\.0)?\.(?:weight|bias))$")


def _modern_vae(key: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """Files of SD1's and SD2's time name the attention's layers otherwise, some as convolutions."""
    match = _VAE_ATTENTION.match(key)
    if match is None:
        return key, shape
    where, name, rest = match.groups()
    as_linear = shape[:2] if shape[2:] == (1, 1) else shape
    return f"{where}.{_OLD_VAE.get(name, name)}{rest}", as_linear


_CLIP = Family(
    stem="model",
    build=lambda config, dtype: CLIPTextModel(CLIPTextConfig.from_dict(config), dtype),
    inputs=_clip_inputs,
    modern=_modern_clip,
)

FAMILIES = {
    "AutoencoderKL": Family(
        stem="diffusion_pytorch_model",
        build=lambda config, dtype: AutoencoderKL(VAEConfig.from_dict(config), dtype),
        inputs=_vae_inputs,
        modern=_modern_vae,
    ),
    "CLIPModel": Family(
        stem="model",
        build=lambda config, dtype: CLIPModel(CLIPConfig.from_dict(config), dtype),
        inputs=_pair_inputs,
    ),
    "CLIPTextModel": _CLIP,
    "CLIPTextModelWithProjection": _CLIP,
    "CLIPVisionModelWithProjection": Family(
        stem="model",
        build=lambda config, dtype: CLIPVisionModel(CLIPVisionConfig.from_dict(config), dtype),
        inputs=_vision_inputs,
    ),
    "UNet2DConditionModel": Family(
        stem="diffusion_pytorch_model",
        build=lambda config, dtype: UNet2DCondition(UNetConfig.from_dict(config), dtype),
        inputs=_unet_inputs,
        conv_names=lambda config: (
            () if config.get("use_linear_projection") else ("proj_in", "proj_out")
        ),
    ),
    "T5EncoderModel": Family(
        stem="model",
        build=lambda config, dtype: T5Encoder(T5Config.from_dict(config), dtype),
        inputs=lambda module: {"input_ids": _integers(1, 1)},
    ),
}


def family_of(config: Mapping[str, Any]) -> Family:
    """The family that a config names (`_class_name` or `architectures`).

    Raises:
      WeightsError: it names none, or one that is not supported.
    """
    architectures = config.get("architectures") or [None]
    name = config.get("_class_name") or architectures[0]
    if name not in FAMILIES:
        said = f"is for {name!r}" if name else "has neither _class_name nor architectures"
        raise WeightsError(f"the config {said}; supported: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def parameter_shapes(module: nn.Module, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The module's parameter tree as shapes; nothing is allocated."""
    return _parameter_shapes(module, tuple(inputs.items()))


@functools.lru_cache(maxsize=64)
def _parameter_shapes(module: nn.Module, inputs: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    """Tracing a large network takes seconds; configs of one model are looked at several times."""
    return jax.eval_shape(module.init, jax.random.key(0), **dict(inputs))["params"]
