"""The CLIP pair of Flatland: pictures and captions side by side (Radford et al. 2021, 2.3).

The contrastive loss alone learns slowly from batches that a CPU can draw, and it asks only the
end-of-text state to say anything. So linear heads, dropped after training, read every factor off
the image embedding, and what a caption names off the mean of its states, which are what a
diffusion model attends to.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from imagic_jax.models import CLIPModel
from imagic_jax.models.clip_pair import unit
from imagic_jax.training.data import CaptionTable, draw_batch
from imagic_jax.training.tasks import cross_entropy, init_heads, telling_loss
from imagic_jax.typing import Params

_LARGEST_SCALE = math.log(100.0)  # of the temperature, as CLIP bounds it


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipTask:
    """Both towers.

    Attributes:
        sizes: number of values per factor, in the order of `CaptionTable.named`.
        noise: pictures are noised by up to this standard deviation, because they will be samples
            and estimates of samples, not only clean drawings.
    """

    model: CLIPModel
    sizes: tuple[int, ...]
    batch: int
    mark_share: float
    wide_share: float
    noise: float
    oversample: int

    def init(self, key: PRNGKeyArray, table: CaptionTable) -> Params:
        keys, config = jax.random.split(key, 3), self.model.config
        size = config.vision.image_size
        variables = jax.jit(self.model.init)(
            keys[0], table.null_ids[None], jnp.zeros((1, size, size, 3))
        )
        return {
            "clip": variables["params"],
            "text_heads": init_heads(keys[1], config.text.hidden_size, self.sizes),
            "image_heads": init_heads(keys[2], config.projection_dim, self.sizes),
        }

    def loss(
        self, params: Params, frozen: Any, table: CaptionTable, key: PRNGKeyArray
    ) -> Float[Array, ""]:
        del frozen
        draw_key, noise_key = jax.random.split(key)
        batch = draw_batch(
            table,
            draw_key,
            self.batch,
            self.model.config.vision.image_size,
            mark_share=self.mark_share,
            text_dropout=0.0,
            oversample=self.oversample,
            wide_share=self.wide_share,
        )
        image = add_some_noise(batch.image, self.noise, noise_key)
        variables = {"params": params["clip"]}
        text: Any = self.model.apply(variables, batch.ids, method="encode_text")
        seen: Any = self.model.apply(variables, image, method="encode_image")
        scale = jnp.exp(jnp.minimum(params["clip"]["logit_scale"], _LARGEST_SCALE))
        matching = contrastive_loss(text.pooled, seen.image_embeds, scale)
        told = telling_loss(params["text_heads"], text.last_hidden_state.mean(axis=1), batch.named)
        shown = telling_loss(params["image_heads"], seen.image_embeds, batch.shown)
        return matching + told + shown


def add_some_noise(
    image: Float[Array, "b h w 3"], most: float, key: PRNGKeyArray
) -> Float[Array, "b h w 3"]:
    """Adds normal noise, of a standard deviation drawn from 0..`most` for each picture."""
    level_key, noise_key = jax.random.split(key)
    level = jax.random.uniform(level_key, (image.shape[0], 1, 1, 1), image.dtype, 0.0, most)
    return image + level * jax.random.normal(noise_key, image.shape, image.dtype)


def contrastive_loss(
    text: Float[Array, "b p"], image: Float[Array, "b p"], scale: Float[Array, ""]
) -> Float[Array, ""]:
    """The symmetric InfoNCE loss: row i of either belongs to row i of the other."""
    logits = scale * unit(image) @ unit(text).T
    own = jnp.arange(logits.shape[0])
    return 0.5 * (cross_entropy(logits, own) + cross_entropy(logits.T, own))
