"""CLIP scores (Radford et al. 2021; Hessel et al. 2021, arXiv:2104.08718; Gal et al. 2021).

Three scales of one cosine are in use, and papers call all of them "CLIP score": the cosine itself
(0.2-0.32 for good matches), 2.5 times it (0.6-0.8) and 100 times it (20-32). Here each has a name
of its own. All functions take embeddings of length 1, as `image_embeddings` and `text_embeddings`
give them.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from imagic_jax.metrics.resize import centre_crop, resize, resize_bytes, shorter_side_to, to_bytes
from imagic_jax.models import CLIPModel
from imagic_jax.models.clip_pair import unit
from imagic_jax.typing import Params, Tokens

CLIPSCORE_PREFIX = "A photo depicts "
"""Put before a text for `clipscore_w2_5`, as jmhessel/clipscore does."""


class Preprocessing(NamedTuple):
    """How a picture is brought to the image tower; OpenAI's by default.

    Attributes:
        kind: "openai" resizes the shorter side by Pillow's bicubic on bytes and crops the centre;
            "interpolate" squeezes to a square by PyTorch's bicubic without antialiasing
            (InstructPix2Pix's metrics).
    """

    size: int = 224
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)
    kind: Literal["openai", "interpolate"] = "openai"


OPENAI = Preprocessing()


def clip_pixels(
    pictures: Float[Array, "b h w 3"], how: Preprocessing = OPENAI
) -> Float[Array, "b s s 3"]:
    """Pictures in [0, 1] as the image tower takes them.

    With "openai" they are rounded to 8 bits first, and no gradient passes.
    """
    if how.kind == "openai":
        height, width = shorter_side_to(pictures.shape[1], pictures.shape[2], how.size)
        pixels = centre_crop(resize_bytes(to_bytes(pictures), height, width), how.size) / 255.0
    else:
        pixels = resize(pictures, how.size, how.size, "bicubic")
    mean, std = (jnp.asarray(a, pixels.dtype) for a in (how.mean, how.std))
    return (pixels - mean) / std


def image_embeddings(
    module: CLIPModel, params: Params, pixels: Float[Array, "b s s 3"]
) -> Float[Array, "b p"]:
    """Embeddings of length 1 of what `clip_pixels` gave."""
    with jax.default_matmul_precision("float32"):
        seen: Any = module.apply({"params": params}, pixels, method="encode_image")
    return unit(seen.image_embeds)


def text_embeddings(module: CLIPModel, params: Params, ids: Tokens) -> Float[Array, "b p"]:
    """Embeddings of length 1 of tokenised texts."""
    with jax.default_matmul_precision("float32"):
        read: Any = module.apply({"params": params}, ids, method="encode_text")
    return unit(read.pooled)


def clip_cos(image: Float[Array, "b p"], text: Float[Array, "b p"]) -> Float[Array, "b"]:
    """The cosine of picture and text."""
    return jnp.sum(image * text, axis=-1)


def clipscore_w2_5(image: Float[Array, "b p"], text: Float[Array, "b p"]) -> Float[Array, "b"]:
    """CLIPScore: 2.5 max(cos, 0); the texts begin with `CLIPSCORE_PREFIX`."""
    return 2.5 * jnp.maximum(clip_cos(image, text), 0.0)


def clipscore_100(image: Float[Array, "b p"], text: Float[Array, "b p"]) -> Float[Array, "b"]:
    """100 cos: torchmetrics' `CLIPScore` per picture (it cuts the mean of them off at 0)."""
    return 100.0 * clip_cos(image, text)


def clip_i(x: Float[Array, "b p"], y: Float[Array, "b p"]) -> Float[Array, "b"]:
    """The cosine of two pictures."""
    return jnp.sum(x * y, axis=-1)


def clip_dir(
    image_before: Float[Array, "b p"],
    image_after: Float[Array, "b p"],
    text_before: Float[Array, "b p"],
    text_after: Float[Array, "b p"],
) -> Float[Array, "b"]:
    """Directional similarity: does the picture change as the text does?

    NaN where picture or text did not change at all: there is no direction.
    """
    image, text = image_after - image_before, text_after - text_before
    lengths = jnp.linalg.norm(image, axis=-1) * jnp.linalg.norm(text, axis=-1)
    cosine = jnp.sum(image * text, axis=-1) / jnp.where(lengths > 0, lengths, 1.0)
    return jnp.where(lengths > 0, cosine, jnp.nan)
