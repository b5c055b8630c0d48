"""What the editors' tests edit: a picture, texts, and few steps."""

import jax
import jax.numpy as jnp

from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors.contracts import Inputs


def inputs_for(loaded, source="dog now", target="red dog", mask=None, **more):
    """A picture of random colours, and texts."""
    cascade, params = loaded.cascade, loaded.params
    size = cascade.size
    image = jax.random.uniform(jax.random.key(5), (1, size, size, 3), minval=-1.0)
    encode = lambda text: cascade.text.encode(params["text"], [text])  # noqa: E731
    if mask is not None:
        mask = jnp.broadcast_to(jnp.asarray(mask, jnp.float32), (1, size, size, 1))
    texts = encode(target), encode(""), encode(source)
    return Inputs(image, *texts, mask=mask, **more)


def sampling_for(loaded, steps=3, guidance=3.0, **more):
    """Few steps on the base, guided there alone."""
    behind = len(loaded.cascade.stages) - 1
    return Sampling(
        steps=(steps,) + (1,) * behind, guidance=(guidance,) + (None,) * behind, batch=2, **more
    )
