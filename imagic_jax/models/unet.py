"""The conditional UNet of Stable Diffusion 1/2/XL, the x4 upscaler and DeepFloyd IF.

One network, driven by a diffusers `config.json` (`UNetConfig`): Ho et al. 2020's UNet with cross
attention (Rombach et al. 2022, arXiv:2112.10752) or with text appended to the keys of
self-attention (Saharia et al. 2022, arXiv:2205.11487, as DeepFloyd IF builds it).
"""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from imagic_jax.models.activations import activation
from imagic_jax.models.config import UNetConfig
from imagic_jax.models.conv import Conv
from imagic_jax.models.embeddings import TextTimeEmbedding, TimestepEmbedding, sinusoid
from imagic_jax.models.linear import Linear
from imagic_jax.models.norms import GroupNorm
from imagic_jax.models.unet_blocks import DownBlock, MidBlock, UpBlock
from imagic_jax.typing import (
    Array,
    DType,
    Features,
    Float,
    Num,
    Pooled,
    TextStates,
    TimeEmbedding,
    Timesteps,
)


class UNet2DCondition(nn.Module):
    """diffusers' `UNet2DConditionModel`, NHWC.

    Attributes:
      config: the structure.
      dtype: compute dtype. Norm statistics, attention scores and softmax, and the sinusoids are
        float32 whatever it is (float64 for float64, but for the sinusoids).
      remat: compute each level again for the gradient in place of keeping its activations.
      scan: deep stacks of transformer blocks (SDXL) are one loop each, see `repeats.in_turn`.
    """

    config: UNetConfig
    dtype: DType = jnp.float32
    remat: bool = False
    scan: bool = False

    @nn.compact
    def __call__(
        self,
        sample: Features,
        timestep: Timesteps,
        encoder_hidden_states: TextStates,
        class_labels: Num[Array, " b"] | Num[Array, ""] | None = None,
        text_embeds: Pooled | None = None,
        time_ids: Num[Array, "b k"] | None = None,
    ) -> Float[Array, "b h w o"]:
        """Predicts noise, v or x0, and variance where the model was trained to.

        Args:
          sample: (B, H, W, in_channels), noisy, with whatever low-resolution picture the model
            wants concatenated behind; H and W multiples of 2**(levels - 1).
          timestep: () or (B,), integer or float32.
          encoder_hidden_states: (B, L, D) raw text states (D = `config.text_dim`); padding is
            attended to, as these models were trained.
          class_labels: (B,) or (): noise augmentation level, an integer for the x4 upscaler, a
            timestep for IF-II; None for models without.
          text_embeds: (B, P) pooled text, SDXL only.
          time_ids: (B, 6) sizes and crop, SDXL only.

        Returns:
          (B, H, W, out_channels) in the dtype of `sample`.

        Raises:
          ValueError: an input that the config needs is missing, one it does not take is given, or
            H, W or the channels do not fit.
        """
        config = self.config
        self._check(sample, class_labels, text_embeds, time_ids)
        temb = self._time_embedding(
            sample.shape[0], timestep, encoder_hidden_states, class_labels, text_embeds, time_ids
        )
        context = encoder_hidden_states.astype(self.dtype)
        if config.encoder_hid_dim is not None:
            context = Linear(config.cross_attention_dim, dtype=self.dtype, name="encoder_hid_proj")(
                context
            )

        h = sample.astype(self.dtype)
        if config.center_input_sample:
            h = 2 * h - 1
        h = Conv(config.block_out_channels[0], dtype=self.dtype, name="conv_in")(h)
        blocks: Any = (DownBlock, MidBlock, UpBlock)
        down, middle, up = (nn.remat(b) if self.remat else b for b in blocks)
        skips = [h]
        for level in range(config.levels):
            block = down(config, level, self.dtype, self.scan, name=f"down_blocks_{level}")
            h, more = block(h, temb, context)
            skips += more
        h = middle(config, self.dtype, self.scan, name="mid_block")(h, temb, context)
        for i in range(config.levels):
            level = config.levels - 1 - i
            layers = config.layers_per_block[level] + 1
            skips, taken = skips[:-layers], skips[-layers:]
            block = up(config, level, self.dtype, self.scan, name=f"up_blocks_{i}")
            h = block(h, taken, temb, context)
        norm = GroupNorm(config.norm_num_groups, config.norm_eps, self.dtype, name="conv_norm_out")
        h = activation(config.act_fn)(norm(h))
        h = Conv(config.out_channels, dtype=self.dtype, name="conv_out")(h)
        return h.astype(sample.dtype)

    def _time_embedding(
        self,
        batch: int,
        timestep: Array,
        text: Array,
        class_labels: Array | None,
        text_embeds: Array | None,
        time_ids: Array | None,
    ) -> TimeEmbedding:
        """Everything that conditions the residual blocks, summed: (B, time_embed_dim)."""
        config, width = self.config, self.config.time_embed_dim
        temb = TimestepEmbedding(width, config.act_fn, self.dtype, name="time_embedding")(
            self._sinusoid(jnp.broadcast_to(timestep, (batch,)), config.block_out_channels[0])
        )
        if class_labels is not None:
            temb += self._class_embedding(jnp.broadcast_to(class_labels, (batch,)))
        if config.addition_embed_type == "text":
            heads = config.addition_embed_type_num_heads
            temb += TextTimeEmbedding(width, heads, self.dtype, name="add_embedding")(text)
        elif text_embeds is not None and time_ids is not None:
            ids = self._sinusoid(time_ids.reshape(-1), config.time_id_dim)
            both = jnp.concatenate([text_embeds.astype(self.dtype), ids.reshape(batch, -1)], -1)
            # SiLU here whatever act_fn says
            temb += TimestepEmbedding(width, "silu", self.dtype, name="add_embedding")(both)
        if config.time_embedding_act_fn is not None:
            temb = activation(config.time_embedding_act_fn)(temb)
        return temb

    def _class_embedding(self, class_labels: Num[Array, " b"]) -> TimeEmbedding:
        """Noise level as another timestep (IF-II) or as an index into a table (x4)."""
        config, width = self.config, self.config.time_embed_dim
        if config.class_embed_type == "timestep":
            embed = TimestepEmbedding(width, config.act_fn, self.dtype, name="class_embedding")
            return embed(self._sinusoid(class_labels, config.block_out_channels[0]))
        rows = config.num_class_embeds or 0  # `_check` refuses labels where there is no table
        table = nn.Embed(rows, width, dtype=self.dtype, name="class_embedding")
        return table(class_labels)

    def _sinusoid(self, positions: Num[Array, " n"], dim: int) -> Float[Array, "n dim"]:
        """The config's sinusoid in the compute dtype."""
        table = sinusoid(positions, dim, self.config.flip_sin_to_cos, self.config.freq_shift)
        return table.astype(self.dtype)

    def _check(
        self,
        sample: Array,
        class_labels: Array | None,
        text_embeds: Array | None,
        time_ids: Array | None,
    ) -> None:
        """Raises ValueError where the inputs do not fit the config."""
        config = self.config
        multiple = 2 ** (config.levels - 1)
        if sample.shape[1] % multiple or sample.shape[2] % multiple:
            raise ValueError(
                f"height and width must be multiples of {multiple}, got {sample.shape[1:3]}"
            )
        if sample.shape[-1] != config.in_channels:
            raise ValueError(
                f"this UNet takes {config.in_channels} input channels, got {sample.shape[-1]}"
            )
        wants_class = config.class_embed_type is not None or config.num_class_embeds is not None
        wants_ids = config.addition_embed_type == "text_time"
        wanted = (
            ("class_labels", wants_class, class_labels),
            ("text_embeds", wants_ids, text_embeds),
            ("time_ids", wants_ids, time_ids),
        )
        for name, wants, value in wanted:
            if wants != (value is not None):
                raise ValueError(f"this UNet {'needs' if wants else 'does not take'} {name}")
