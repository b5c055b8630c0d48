"""Models that the editors' tests share."""

import jax
import jax.numpy as jnp
import published
import pytest

from imagic_jax.backbones import registry
from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors.contracts import Inputs
from imagic_jax.metrics.clip_guidance import open_scorer


@pytest.fixture(scope="session")
def sd_loaded(tmp_path_factory):
    """A tiny random Stable Diffusion."""
    folder = published.write_sd(tmp_path_factory.mktemp("models") / "sd", small=True)
    return registry.load_cascade(folder)


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory):
    """A tiny random CLIP pair that sees 16 pixels."""
    return published.write_clip(tmp_path_factory.mktemp("models") / "clip")


@pytest.fixture(scope="session")
def scorer(clip_folder):
    """The same, with a text."""
    return open_scorer(clip_folder, "a red dog")


@pytest.fixture(params=["tiny_loaded", "sd_loaded"])
def model(request):
    """A pixel cascade whose attention is joint, and a latent model: loaded."""
    return request.getfixturevalue(request.param)


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
