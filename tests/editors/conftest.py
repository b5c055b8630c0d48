"""Models that the editors' tests share."""

import published
import pytest

from imagic_jax.backbones import registry
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


@pytest.fixture(params=["tiny_loaded", pytest.param("sd_loaded", marks=pytest.mark.slow)])
def slow_model(request):
    """The same for what compiles gradients or several programs."""
    return request.getfixturevalue(request.param)
