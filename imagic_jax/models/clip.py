"""CLIP's text tower (Radford et al. 2021, arXiv:2103.00020): transformers' `CLIPTextModel`.

SD1 reads OpenAI's ViT-L (quick GELU), SD2 OpenCLIP's ViT-H cut before its last layer, SDXL both the
penultimate states of ViT-L and of OpenCLIP's ViT-bigG, and the latter's projected pooled state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.clip_layers import CLIPEncoder, CLIPLayersConfig
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import LayerNorm
from imagic_jax.typing import Array, DType, Float, Pooled, TextStates, Tokens

#: Published configs say this end-of-text id and mean "the largest id of the row".
_LEGACY_EOS = 2
#: transformers' `initializer_factor` of embedding tables.
TABLE_INIT = nn.initializers.normal(0.02)


@dataclass(frozen=True, kw_only=True)
class CLIPTextConfig(CLIPLayersConfig):
    """Static structure of a `CLIPTextModel`; names and defaults are transformers'."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    eos_token_id: int = 49407
    projection_dim: int | None = None  # None: the pooled state is not projected

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> "CLIPTextConfig":
        """Reads a transformers `config.json` of a CLIP text model, with or without projection.

        Raises:
          UnsupportedConfig: an activation or a number of heads that is not possible.
        """
        values = {f: raw[f] for f in cls.__dataclass_fields__ if raw.get(f) is not None}
        if "CLIPTextModelWithProjection" not in (raw.get("architectures") or ()):
            values.pop("projection_dim", None)
        else:
            values.setdefault("projection_dim", 512)
        config = cls(**values)
        config.check()
        return config


class CLIPTextOutput(NamedTuple):
    """What a text tower makes of tokens."""

    last_hidden_state: Float[Array, "b l c"]  # after the final norm
    penultimate: Float[Array, "b l c"]  # before the last layer, not normalised
    pooled: Float[Array, "b p"]  # the end-of-text state, projected where the model projects


class CLIPTextModel(nn.Module):
    """transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, input_ids: Tokens) -> CLIPTextOutput:
        """Encodes token ids.

        Args:
          input_ids: (B, L), L at most `max_position_embeddings`; padding is attended to, as in
            training.

        Raises:
          ValueError: more tokens than positions.
        """
        config = self.config
        last, penultimate = CLIPTextTransformer(config, self.dtype, name="text_model")(input_ids)
        pooled = end_states(config, input_ids, last)
        if config.projection_dim is not None:
            pooled = Linear(
                config.projection_dim, use_bias=False, dtype=self.dtype, name="text_projection"
            )(pooled)
        return CLIPTextOutput(last, penultimate, pooled)


def end_states(config: CLIPTextConfig, input_ids: Tokens, states: TextStates) -> Pooled:
    """The states at the (first) end-of-text token: what CLIP takes for the whole text."""
    if config.eos_token_id == _LEGACY_EOS:
        end = input_ids.argmax(axis=-1)
    else:
        end = (input_ids == config.eos_token_id).argmax(axis=-1)
    return jnp.take_along_axis(states, end[:, None, None], axis=1)[:, 0]


class CLIPTextTransformer(nn.Module):
    """Embeddings, layers, final norm."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, input_ids: Tokens) -> tuple[TextStates, TextStates]:
        """Returns the normalised last states and the states before the last layer."""
        h = CLIPTextEmbeddings(self.config, self.dtype, name="embeddings")(input_ids)
        last, penultimate = CLIPEncoder(self.config, True, self.dtype, name="encoder")(h)
        norm = LayerNorm(self.config.layer_norm_eps, self.dtype, name="final_layer_norm")
        return norm(last), penultimate


class CLIPTextEmbeddings(nn.Module):
    """Token and position tables."""

    config: CLIPTextConfig
    dtype: DType = jnp.float32

    @nn.compact
    def __call__(self, input_ids: Tokens) -> TextStates:
        """(B, L) ids to (B, L, C)."""
        config, length = self.config, input_ids.shape[-1]
        if length > config.max_position_embeddings:
            raise ValueError(
                f"{length} tokens, but the model has {config.max_position_embeddings} positions"
            )

        def table(rows: int, name: str) -> nn.Embed:
            return nn.Embed(
                rows, config.hidden_size, dtype=self.dtype, embedding_init=TABLE_INIT, name=name
            )

        tokens = table(config.vocab_size, "token_embedding")
        positions = table(config.max_position_embeddings, "position_embedding")
        return tokens(input_ids) + positions(jnp.arange(length))
