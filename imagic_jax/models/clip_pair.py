"""The CLIP pair (Radford et al. 2021): a text and an image tower into one space.

transformers' `CLIPModel`: how well a text fits a picture is the cosine of their embeddings, times a
learned temperature.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.clip import CLIPTextConfig, CLIPTextOutput, CLIPTextTransformer, end_states
from imagic_jax.models.clip_vision import CLIPVisionConfig, CLIPVisionOutput, CLIPVisionTransformer
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import statistics_dtype
from imagic_jax.typing import Array, DType, Float, Image, Tokens


@dataclass(frozen=True, kw_only=True)
class CLIPConfig:
    """Static structure of a `CLIPModel`; names and defaults are transformers'."""

    text: CLIPTextConfig
    vision: CLIPVisionConfig
    projection_dim: int = 512
    logit_scale_init_value: float = 2.6592

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "CLIPConfig":
        """Reads a transformers `config.json` of a `CLIPModel`.

        Raises:
          UnsupportedConfig: a tower asks for something that is not implemented.
        """
        fields = ("projection_dim", "logit_scale_init_value")
        return cls(
            text=CLIPTextConfig.from_dict(raw.get("text_config") or {}),
            vision=CLIPVisionConfig.from_dict(raw.get("vision_config") or {}),
            **{f: raw[f] for f in fields if raw.get(f) is not None},
        )


class CLIPOutput(NamedTuple):
    """Texts and pictures side by side, as transformers names them."""

    text_embeds: Float[Array, "b p"]  # of length 1
    image_embeds: Float[Array, "n p"]  # of length 1
    logits_per_image: Float[Array, "n b"]  # cosines times the temperature


class CLIPModel(nn.Module):
    """Both towers; each alone by `method="encode_text"` and `method="encode_image"`."""

    config: CLIPConfig
    dtype: DType = jnp.float32

    def setup(self) -> None:
        """Makes the parts under transformers' names."""
        config = self.config

        def projection() -> Linear:
            return Linear(config.projection_dim, use_bias=False, dtype=self.dtype)

        self.text_model = CLIPTextTransformer(config.text, self.dtype)
        self.vision_model = CLIPVisionTransformer(config.vision, self.dtype)
        self.text_projection = projection()
        self.visual_projection = projection()
        start = nn.initializers.constant(config.logit_scale_init_value)
        self.logit_scale = self.param("logit_scale", start, ())

    def __call__(self, input_ids: Tokens, pixel_values: Float[Array, "n _ _ 3"]) -> CLIPOutput:
        """Scores every text for every picture; their numbers may differ.

        Args:
          input_ids: (B, L), padded with the end-of-text token.
          pixel_values: (N, H, W, 3), normalised, of the image tower's size.
        """
        text = unit(self.encode_text(input_ids).pooled)
        image = unit(self.encode_image(pixel_values).image_embeds)
        scale = jnp.exp(self.logit_scale.astype(text.dtype))
        return CLIPOutput(text, image, scale * image @ text.T)

    def encode_text(self, input_ids: Tokens) -> CLIPTextOutput:
        """The text tower; `pooled` is projected into the common space, not normalised."""
        last, penultimate = self.text_model(input_ids)
        pooled = end_states(self.config.text, input_ids, last)
        return CLIPTextOutput(last, penultimate, self.text_projection(pooled))

    def encode_image(self, pixel_values: Image) -> CLIPVisionOutput:
        """The image tower; the embeddings are not normalised."""
        last, pooled = self.vision_model(pixel_values)
        return CLIPVisionOutput(self.visual_projection(pooled), last)


def unit(x: Float[Array, "n p"]) -> Float[Array, "n p"]:
    """Rows scaled to length 1, in float32 or wider."""
    x = x.astype(statistics_dtype(x.dtype))
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)
