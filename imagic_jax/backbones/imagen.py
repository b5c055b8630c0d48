"""Pixel diffusion stages: Imagen's base and super-resolution models, as DeepFloyd IF has them.

A super-resolution stage is conditioned on a low-resolution picture that is up-sampled, noised to an
augmentation level (Ho et al. 2021, "Cascaded diffusion models", 4.2) and concatenated behind x_t;
the network is told the level. Stages may work on pixels moved to channels (`patch_size`): an exact
change of layout, so losses and thresholds are those of pixels.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.backbones.contracts import Cond, Extra, Interceptor, repeat
from imagic_jax.backbones.pixels import depth_to_space, resize, space_to_depth, upsample
from imagic_jax.diffusion import prediction, thresholding
from imagic_jax.diffusion.loss import denoising_loss
from imagic_jax.diffusion.prediction import Prediction
from imagic_jax.diffusion.schedule import Schedule, add_noise
from imagic_jax.models import UNet2DCondition
from imagic_jax.typing import Array, Float, Image, Int, Params, PRNGKeyArray


@dataclasses.dataclass(frozen=True)
class LowRes:
    """How a super-resolution stage is conditioned on a picture.

    Attributes:
        size: pixels per side of the low-resolution picture.
        schedule: noise schedule of the augmentation.
        sample_level: augmentation level when sampling.
        train_level: levels in training are uniform in 0..train_level.
    """

    size: int
    schedule: Schedule
    sample_level: int
    train_level: int


@dataclasses.dataclass(frozen=True)
class PixelStage:
    """A pixel-space diffusion model: a base (no `low_res`) or a super-resolution stage."""

    name: str
    size: int
    unet: UNet2DCondition
    schedule: Schedule
    low_res: LowRes | None = None

    @property
    def patch_size(self) -> int:
        return self.unet.config.patch_size

    @property
    def low_res_size(self) -> int | None:
        return self.low_res.size if self.low_res else None

    def prepare(self, params: Params, image: Image) -> Float[Array, "b h w c"]:
        """See `Stage.prepare`; `params` are not needed by a pixel model."""
        del params
        return space_to_depth(resize(image, self.size), self.patch_size)

    def finish(self, params: Params, x0: Float[Array, "b h w c"]) -> Image:
        del params
        return jnp.clip(depth_to_space(x0, self.patch_size), -1.0, 1.0)

    def sample_shape(self, batch: int) -> tuple[int, ...]:
        side = self.size // self.patch_size
        return (batch, side, side, 3 * self.patch_size**2)

    def conditioning(
        self, low_res: Image | None, level: Int[Array, "b"] | None, key: PRNGKeyArray
    ) -> Extra:
        """Up-samples `low_res` and noises it to `level` (default: the sampling level)."""
        if self.low_res is None:
            return Extra()
        if low_res is None:
            raise ValueError(f"stage {self.name} needs a low-resolution picture")
        image = upsample(resize(low_res, self.low_res.size), self.size)
        if level is None:
            level = jnp.full((image.shape[0],), self.low_res.sample_level, jnp.int32)
        noise = jax.random.normal(key, image.shape, image.dtype)
        noised = add_noise(self.low_res.schedule, image, noise, level)
        return Extra(space_to_depth(noised, self.patch_size), level)

    def predict(
        self,
        params: Params,
        x_t: Float[Array, "b h w c"],
        t: Array,
        cond: Cond,
        extra: Extra,
        interceptor: Interceptor | None = None,
    ) -> tuple[Prediction, Mapping[str, Any]]:
        """See `Stage.predict`."""
        if interceptor is None:
            output, aux = self._apply(params, x_t, t, cond, extra), {}
        else:
            with nn.intercept_methods(interceptor):
                output, aux = self._apply(params, x_t, t, cond, extra, mutable=["intermediates"])
        abar, rest = self.schedule.abar(t), self.schedule.one_minus_abar(t)
        return prediction.from_output(self.schedule.prediction_type, output, x_t, abar, rest), aux

    def limit(self, x0: Float[Array, "b h w c"]) -> Float[Array, "b h w c"]:
        """x0 kept in the range of pictures, as the schedule's folder asks (acts on pixels)."""
        return thresholding.limit(self.schedule, x0)

    def loss(
        self,
        params: Params,
        x0: Float[Array, "1 h w c"],
        cond: Cond,
        low_res: Image | None,
        key: PRNGKeyArray,
        batch: int,
    ) -> Float[Array, ""]:
        """See `Stage.loss`."""

        def many(a):
            return jnp.broadcast_to(a, (batch, *a.shape[1:]))

        low = None if low_res is None else many(low_res)
        return self.batch_loss(params, many(x0), repeat(cond, batch), low, key)

    def batch_loss(
        self,
        params: Params,
        x0: Float[Array, "b h w c"],
        cond: Cond,
        low_res: Image | None,
        key: PRNGKeyArray,
    ) -> Float[Array, ""]:
        """The training loss over a batch of different pictures, one (t, eps) draw each."""
        level_key, noise_key, key = jax.random.split(key, 3)
        extra = Extra()
        if self.low_res is not None:
            level = jax.random.randint(level_key, (x0.shape[0],), 0, self.low_res.train_level + 1)
            extra = self.conditioning(low_res, level, noise_key)

        def network(x_t, t):
            return self._apply(params, x_t, t, cond, extra)

        return denoising_loss(network, self.schedule, x0, key)

    def _apply(
        self, params: Params, x_t: Array, t: Array, cond: Cond, extra: Extra, **kwargs: Any
    ) -> Any:
        """The network's raw output, and what it sowed where `mutable` is given."""
        sample = x_t if extra.low_res is None else jnp.concatenate([x_t, extra.low_res], axis=-1)
        return self.unet.apply(
            {"params": params}, sample, t, cond.states, class_labels=extra.level, **kwargs
        )
