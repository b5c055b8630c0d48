"""Reading pictures whose nuisance nobody knows (minutes: it fits the whole scene)."""

import random

import jax
import numpy as np
import pytest

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import free_reader, nuisance, splits
from imagic_jax.flatland.reader import blur
from imagic_jax.flatland.render import render_many


@pytest.mark.slow
def test_named_factors_are_read_off_soft_and_noisy_pictures():
    rng = random.Random(5)
    wanted = [splits.draw_factors(rng, i % 6) for i in range(48)]
    u = jax.vmap(nuisance.sample)(jax.random.split(jax.random.key(99), len(wanted)))
    clean = np.asarray(render_many(splits.as_arrays(wanted), u, free_reader.SIZE))
    noise = np.random.default_rng(0).normal(0, 0.02, clean.shape)
    soft = np.clip(blur(clean, 0.5) + noise, 0, 1).astype(np.float32)
    readings = free_reader.read_free(soft)
    for name in fx.FACTOR_NAMES:
        right = [
            getattr(r.factors, name) == getattr(f, name)
            for r, f in zip(readings, wanted, strict=True)
        ]
        assert np.mean(right) >= 0.95, name
