"""Test-wide settings: CPU with simulated devices, a throw-away compile cache, no network."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("IMAGIC_CACHE", tempfile.mkdtemp(prefix="imagic-cache-"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax

jax.config.update("jax_num_cpu_devices", 4)
