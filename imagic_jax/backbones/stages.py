"""One diffusion stage: a UNet, its schedule, what it runs on, and what conditions it.

Imagen's and DeepFloyd IF's stages run on pixels, Stable Diffusion's on latents (`codecs`). A
super-resolution stage is conditioned on a low-resolution picture that is noised to an augmentation
level (Ho et al. 2021, "Cascaded diffusion models", 4.2) and concatenated behind x_t; the network is
told the level.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from imagic_jax.backbones.codecs import Codec
from imagic_jax.backbones.contracts import Cond, Extra, Interceptor, Site, repeat
from imagic_jax.backbones.pixels import resize
from imagic_jax.backbones.sites import find_sites
from imagic_jax.diffusion import prediction
from imagic_jax.diffusion.loss import denoising_loss, matching_loss
from imagic_jax.diffusion.prediction import Prediction
from imagic_jax.diffusion.schedule import Schedule, add_noise
from imagic_jax.models import UNet2DCondition
from imagic_jax.models.attention_kernels import Kernel, attending
from imagic_jax.runtime.mesh import divide_draws
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
class UNetStage:
    """A diffusion model: a base (no `low_res`) or a super-resolution stage.

    `attention` is what its network's long attentions are computed with. Its parameters are
    {"unet": ...}, and beside it {"vae": ...} where it runs on latents and {"prior": ...} where its
    folder carries one (see `contracts.Prior`).
    """

    name: str
    size: int
    unet: UNet2DCondition
    schedule: Schedule
    codec: Codec
    low_res: LowRes | None = None
    attention: Kernel = "plain"

    @property
    def low_res_size(self) -> int | None:
        return self.low_res.size if self.low_res else None

    def prepare(self, params: Params, image: Image) -> Float[Array, "b h w c"]:
        """See `Stage.prepare`."""
        return self.codec.encode(params, resize(image, self.size))

    def finish(self, params: Params, x0: Float[Array, "b h w c"]) -> Image:
        return jnp.clip(self.picture(params, x0), -1.0, 1.0)

    def picture(self, params: Params, x0: Float[Array, "b h w c"]) -> Image:
        """See `Stage.picture`."""
        return self.codec.decode(params, x0)

    def mask(self, mask: Float[Array, "b s s 1"], dilation: int = 0) -> Float[Array, "b h w c"]:
        """See `Stage.mask`."""
        return self.codec.mask(mask, self.size, dilation)

    def sites(self) -> tuple[Site, ...]:
        """See `Stage.sites`."""
        unet: Any = self.unet
        return find_sites(unet, self.sample_shape(1)[1])

    def sample_shape(self, batch: int) -> tuple[int, ...]:
        side = self.size // self.codec.factor
        return (batch, side, side, self.codec.channels)

    def conditioning(
        self, low_res: Image | None, level: Int[Array, "b"] | None, key: PRNGKeyArray
    ) -> Extra:
        """Noises `low_res` to `level` (default: the sampling level), on the grid of x_t."""
        if self.low_res is None:
            return Extra()
        if low_res is None:
            raise ValueError(f"stage {self.name} needs a low-resolution picture")
        image = self.codec.enlarge(resize(low_res, self.low_res.size), self.size)
        if level is None:
            level = jnp.full((image.shape[0],), self.low_res.sample_level, jnp.int32)
        noise = jax.random.normal(key, image.shape, image.dtype)
        noised = add_noise(self.low_res.schedule, image, noise, level)
        return Extra(self.codec.arrange(noised), level)

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
            # in a loop over equal layers an interceptor would see one of them alone
            stage = dataclasses.replace(self, unet=self.unet.clone(scan=False))
            with nn.intercept_methods(interceptor):
                output, aux = stage._apply(params, x_t, t, cond, extra, mutable=["intermediates"])
        abar, rest = self.schedule.abar(t), self.schedule.one_minus_abar(t)
        return prediction.from_output(self.schedule.prediction_type, output, x_t, abar, rest), aux

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
        return self.batch_loss(params, divide_draws(many(x0)), repeat(cond, batch), low, key)

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

    def drift(
        self,
        params: Params,
        before: Params,
        x0: Float[Array, "b h w c"],
        cond: Cond,
        key: PRNGKeyArray,
        above: float | Float[Array, ""] = 0.0,
    ) -> Float[Array, ""]:
        """See `Stage.drift`."""

        def answers(p):
            return lambda x_t, t: self._apply(p, x_t, t, cond, Extra())

        x0 = divide_draws(x0)
        return matching_loss(answers(params), answers(before), self.schedule, x0, key, above)

    def _apply(
        self, params: Params, x_t: Array, t: Array, cond: Cond, extra: Extra, **kwargs: Any
    ) -> Any:
        """The network's raw output, and what it sowed where `mutable` is given."""
        sample = x_t if extra.low_res is None else jnp.concatenate([x_t, extra.low_res], axis=-1)
        if self.unet.config.addition_embed_type == "text_time":
            kwargs["text_embeds"] = cond.pooled
            kwargs["time_ids"] = self._time_ids(x_t.shape[0])
        kwargs["class_labels"] = extra.level
        with attending(self.attention):
            return self.unet.apply({"params": params["unet"]}, sample, t, cond.states, **kwargs)

    def _time_ids(self, batch: int) -> Float[Array, "b 6"]:
        """SDXL's size conditioning (Podell et al. 2023, 2.2): a whole, uncropped square."""
        ids = jnp.array([self.size, self.size, 0, 0, self.size, self.size], jnp.float32)
        return jnp.broadcast_to(ids, (batch, 6))
