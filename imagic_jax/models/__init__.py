"""Flax networks: pure functions of (params, arrays), NHWC, no knowledge of files or schedules."""

from imagic_jax.models.attention import AddedKVAttention, Attention
from imagic_jax.models.clip import CLIPTextConfig, CLIPTextModel
from imagic_jax.models.clip_pair import CLIPConfig, CLIPModel
from imagic_jax.models.clip_vision import CLIPVisionConfig, CLIPVisionModel
from imagic_jax.models.config import UNetConfig
from imagic_jax.models.resnet import ResnetBlock
from imagic_jax.models.supported import UnsupportedConfig
from imagic_jax.models.t5 import T5Config, T5Encoder
from imagic_jax.models.unet import UNet2DCondition
from imagic_jax.models.vae import AutoencoderKL, VAEConfig

__all__ = [
    "AddedKVAttention",
    "Attention",
    "AutoencoderKL",
    "CLIPConfig",
    "CLIPModel",
    "CLIPTextConfig",
    "CLIPTextModel",
    "CLIPVisionConfig",
    "CLIPVisionModel",
    "ResnetBlock",
    "T5Config",
    "T5Encoder",
    "UNet2DCondition",
    "UNetConfig",
    "UnsupportedConfig",
    "VAEConfig",
]
