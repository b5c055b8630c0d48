"""The autoencoder of a latent model (Rombach et al. 2022, 3.1), without the adversary.

Flatland's pictures are clean drawings: absolute and squared error keep their edges. A small
Kullback-Leibler term keeps the latents near a normal distribution and a little blurred, so that
small errors of the diffusion model do not show.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from imagic_jax.models import AutoencoderKL
from imagic_jax.training.data import CaptionTable, draw_batch
from imagic_jax.training.tasks import RESIDUAL_ENDS, zero_residuals
from imagic_jax.typing import Image, Params

_FIRST_LOGVAR = -6.0  # a decoder that starts with pure noise learns to read over its input


@dataclasses.dataclass(frozen=True, kw_only=True)
class VaeTask:
    """Encoder and decoder.

    Attributes:
        size: pixels per side.
        squared: weight of the squared error beside the absolute one.
        kl: weight of the divergence per latent, in nats.
    """

    vae: AutoencoderKL
    size: int
    batch: int
    mark_share: float
    wide_share: float
    squared: float
    kl: float
    oversample: int

    def init(self, key: PRNGKeyArray, table: CaptionTable) -> Params:
        del table
        image = jnp.zeros((1, self.size, self.size, 3))
        params = jax.jit(self.vae.init)(key, image)["params"]
        params = zero_residuals(params, RESIDUAL_ENDS)
        channels = self.vae.config.latent_channels
        bias = params["quant_conv"]["bias"].at[channels:].set(_FIRST_LOGVAR)
        return {"vae": {**params, "quant_conv": {**params["quant_conv"], "bias": bias}}}

    def draw(self, table: CaptionTable, key: PRNGKeyArray) -> Image:
        """A batch of pictures."""
        return draw_batch(
            table,
            key,
            self.batch,
            self.size,
            mark_share=self.mark_share,
            text_dropout=0.0,
            oversample=self.oversample,
            wide_share=self.wide_share,
        ).image

    def loss(
        self, params: Params, frozen: Any, table: CaptionTable, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        del frozen
        draw_key, noise_key = jax.random.split(key)
        image, variables = self.draw(table, draw_key), {"params": params["vae"]}
        mean, logvar = self._apply(variables, image, "encode")
        noise = jax.random.normal(noise_key, mean.shape, mean.dtype)
        made = self._apply(variables, mean + jnp.exp(0.5 * logvar) * noise, "decode")
        error = made - image
        off = jnp.mean(jnp.abs(error)) + self.squared * jnp.mean(jnp.square(error))
        return off + self.kl * jnp.mean(divergence(mean, logvar))

    def _apply(self, variables: Any, x: Array, method: str) -> Any:
        return self.vae.apply(variables, x, method=method)


def divergence(
    mean: Float[Array, "b h w c"], logvar: Float[Array, "b h w c"]
) -> Float[Array, "b h w c"]:
    """KL(N(mean, exp(logvar)) || N(0, 1)) of each number, in nats."""
    return 0.5 * (jnp.square(mean) + jnp.exp(logvar) - 1.0 - logvar)
