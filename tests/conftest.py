"""Test-wide settings: CPU with simulated devices, a throw-away compile cache, no network."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("IMAGIC_CACHE", tempfile.mkdtemp(prefix="imagic-cache-"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a tiny random cascade: 16, 32 and 64 pixels."""
    import tiny

    return tiny.write_cascade(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_loaded(tiny_model):
    """The same, loaded."""
    from imagic_jax.backbones import registry

    return registry.load(tiny_model)
