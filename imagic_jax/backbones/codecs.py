"""What a stage's diffusion runs on: pixels, perhaps moved to channels, or an autoencoder's latents.

A codec is a frozen, hashable value; parameters are arguments. `params` is always the stage's tree
({"unet": ..., "vae": ...}), of which a pixel codec needs nothing.
"""

import dataclasses
from typing import Any, Protocol, runtime_checkable

import jax.numpy as jnp

from imagic_jax.backbones.pixels import depth_to_space, space_to_depth, touched, upsample
from imagic_jax.models import AutoencoderKL
from imagic_jax.typing import Array, Float, Image, Params


@runtime_checkable
class Codec(Protocol):
    """Pictures to x0 and back, and how a low-resolution picture is laid beside x_t."""

    @property
    def factor(self) -> int:
        """Pixels per cell of x_t, per side."""
        ...

    @property
    def channels(self) -> int:
        """Channels of x_t."""
        ...

    def encode(self, params: Params, image: Image) -> Float[Array, "b h2 w2 c2"]:
        """Pictures of the stage's size to x0."""
        ...

    def decode(self, params: Params, x0: Float[Array, "b h2 w2 c2"]) -> Image:
        """x0 to pictures, about [-1, 1] (nothing is clipped)."""
        ...

    def mask(
        self, mask: Float[Array, "b s s 1"], size: int, dilation: int
    ) -> Float[Array, "b h2 w2 c2"]:
        """See `Stage.mask`; `size` is the stage's."""
        ...

    def enlarge(self, low_res: Image, size: int) -> Image:
        """A low-resolution picture as it is noised, for a stage of `size` pixels."""
        ...

    def arrange(self, low_res: Image) -> Float[Array, "b h2 w2 c2"]:
        """The noised picture on the grid of x_t."""
        ...


@dataclasses.dataclass(frozen=True)
class Pixels:
    """Pixels, `patch` x `patch` of them moved to channels (an exact change of layout)."""

    patch: int = 1

    @property
    def factor(self) -> int:
        return self.patch

    @property
    def channels(self) -> int:
        return 3 * self.patch**2

    def encode(self, params: Params, image: Image) -> Float[Array, "b h2 w2 c2"]:
        del params
        return space_to_depth(image, self.patch)

    def decode(self, params: Params, x0: Float[Array, "b h2 w2 c2"]) -> Image:
        del params
        return depth_to_space(x0, self.patch)

    def mask(
        self, mask: Float[Array, "b s s 1"], size: int, dilation: int
    ) -> Float[Array, "b h2 w2 c2"]:
        """Of x_t's channels: each belongs to a pixel of its own."""
        pixels = jnp.repeat(touched(mask, size, dilation), 3, axis=-1)
        return space_to_depth(pixels, self.patch)

    def enlarge(self, low_res: Image, size: int) -> Image:
        """Enlarged to the full size before it is noised, as DeepFloyd IF's second stage does."""
        return upsample(low_res, size)

    def arrange(self, low_res: Image) -> Float[Array, "b h2 w2 c2"]:
        return space_to_depth(low_res, self.patch)


@dataclasses.dataclass(frozen=True)
class Latents:
    """Latents of an autoencoder: the posterior's mean times `scaling_factor`.

    (diffusers draws from the posterior; the mean gives a fixed target for one picture.)
    """

    vae: AutoencoderKL
    scaling_factor: float

    @property
    def factor(self) -> int:
        return self.vae.config.factor

    @property
    def channels(self) -> int:
        return self.vae.config.latent_channels

    def encode(self, params: Params, image: Image) -> Float[Array, "b h2 w2 c2"]:
        moments: Any = self.vae.apply({"params": params["vae"]}, image, method="encode")
        return self.scaling_factor * moments[0].astype(jnp.float32)

    def decode(self, params: Params, x0: Float[Array, "b h2 w2 c2"]) -> Image:
        image: Any = self.vae.apply(
            {"params": params["vae"]}, x0 / self.scaling_factor, method="decode"
        )
        return image.astype(jnp.float32)

    def mask(
        self, mask: Float[Array, "b s s 1"], size: int, dilation: int
    ) -> Float[Array, "b h2 w2 c2"]:
        """One channel: all channels of a latent cell share its pixels."""
        return touched(mask, size // self.factor, dilation)

    def enlarge(self, low_res: Image, size: int) -> Image:
        """Left at its size: the x4 upscaler's low-resolution pixels lie on the latents' grid."""
        del size
        return low_res

    def arrange(self, low_res: Image) -> Float[Array, "b h2 w2 c2"]:
        return low_res
