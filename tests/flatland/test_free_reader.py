"""Reading pictures whose nuisance nobody knows (minutes: it fits the whole scene)."""

import random

import jax
import numpy as np
import pytest

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import free_reader, nuisance, splits
from imagic_jax.flatland.reader import blur
from imagic_jax.flatland.render import render_many


def test_marks_are_told_from_each_other_and_from_none():
    wanted = [splits.draw_factors(random.Random(i), i % 6) for i in range(12)]
    keys = jax.random.split(jax.random.key(3), len(wanted))
    u = jax.device_get(jax.vmap(lambda k: nuisance.sample(k, "wide", marks=True))(keys))
    on = np.array([1] * 8 + [0] * 4, np.float32)
    u = u._replace(mark_on=on)
    f = splits.as_arrays(wanted)
    pictures = np.asarray(render_many(f, u, free_reader.SIZE))
    noisy = pictures + np.random.default_rng(0).normal(0, 0.02, pictures.shape)
    bare = u._replace(mark=np.zeros_like(u.mark), mark_on=np.zeros_like(on))
    found = free_reader._with_marks(f, bare, noisy.astype(np.float32))
    np.testing.assert_array_equal(found.mark_on, on)
    np.testing.assert_array_equal(found.mark[:8], u.mark[:8])
    for name in set(u._fields) - {"mark", "mark_on"}:
        np.testing.assert_array_equal(getattr(found, name), getattr(u, name))


@pytest.mark.slow
def test_a_mark_does_not_mislead_the_reader():
    rng = random.Random(6)
    wanted = [splits.draw_factors(rng, i % 6) for i in range(48)]
    keys = jax.random.split(jax.random.key(98), len(wanted))
    u = jax.device_get(jax.vmap(lambda k: nuisance.sample(k, "wide", marks=True))(keys))
    clean = np.asarray(render_many(splits.as_arrays(wanted), u, free_reader.SIZE))
    readings = free_reader.read_free(clean, marks=True)
    for name in fx.FACTOR_NAMES:
        right = [
            getattr(r.factors, name) == getattr(f, name)
            for r, f in zip(readings, wanted, strict=True)
        ]
        assert np.mean(right) >= 0.95, name
    told = [np.mean(r.nuisance.mark == m) for r, m in zip(readings, u.mark, strict=True)]
    assert np.mean(told) >= 0.95


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
