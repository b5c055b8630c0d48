"""Fits of benchmark items: what ablations share is what each would have computed alone."""

import contextlib
import dataclasses
import itertools
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import EmbeddingConfig
from imagic_jax.evaluation.costs import Clock
from imagic_jax.evaluation.fits import Fits, image_of, texts
from imagic_jax.evaluation.items import draw
from imagic_jax.jobs.settings import EditSettings


@pytest.fixture
def item():
    drawn = (draw("validation", "iid", "pose", i) for i in range(20))
    return next(i for i in drawn if i is not None)


def settings(steps):
    return EditSettings(
        embedding=EmbeddingConfig(steps=steps, learning_rate=1e-2, batch=2),
        tuning=(None, None, None),
        sampling=Sampling(steps=(2, 2, 2), guidance=(None, None, None)),
        etas=(1.0,),
        seeds=(0,),
    )


@pytest.fixture
def steps_done(monkeypatch):
    """Steps of stage A that were computed, in order."""
    done = []
    plain = imagic.embed

    def embed(stage, params, picture, cond, config, key, *, state=None, on_chunk=None):
        begun = 0 if state is None else state.step
        if begun < config.steps:
            done.append(config.steps - begun)
        return plain(stage, params, picture, cond, config, key, state=state, on_chunk=on_chunk)

    monkeypatch.setattr(imagic, "embed", embed)
    return done


def test_shared_embeddings_are_those_of_fits_alone_to_the_bit(tiny_loaded, item, steps_done):
    fits = Fits(tiny_loaded)
    shared = [fits(item, settings(n), Clock()) for n in (3, 3, 5)]
    assert steps_done == [3, 2]
    alone = [Fits(tiny_loaded)(item, settings(n), Clock()) for n in (3, 5)]
    assert steps_done == [3, 2, 3, 5]
    for ours, theirs in zip(shared, (alone[0], *alone), strict=True):
        jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    moved = shared[2].stages[0].optimised.states - shared[0].stages[0].optimised.states
    assert np.abs(moved).max() > 1e-3


def test_a_fit_is_that_of_the_editor(tiny_loaded, item):
    """Stage A beside `imagic.fit` draws from the same keys as inside it."""
    s = settings(3)
    plain = imagic.fit(
        tiny_loaded.cascade,
        tiny_loaded.params,
        image_of(tiny_loaded, item),
        texts(tiny_loaded, item.text),
        texts(tiny_loaded, ""),
        s.embedding,
        s.tuning,
        jax.random.fold_in(jax.random.key(s.seed), item.nuisance_seed),
    )
    jax.tree.map(np.testing.assert_array_equal, Fits(tiny_loaded)(item, s, Clock()), plain)


def test_what_was_shared_is_counted_for_each(tiny_loaded, item, monkeypatch):
    """A clock that says one second for whatever is measured."""
    clock = SimpleNamespace(perf_counter=itertools.count().__next__)
    monkeypatch.setattr("imagic_jax.evaluation.costs.time", clock)
    nothing = contextlib.nullcontext(SimpleNamespace(seconds=0.0))
    monkeypatch.setattr("imagic_jax.evaluation.costs.counted", lambda: nothing)
    fits, first, second, third = Fits(tiny_loaded), Clock(), Clock(), Clock()
    fits(item, settings(3), first)
    fits(item, settings(3), second)
    fits(item, settings(4), third)
    assert first.seconds["fit"] == second.seconds["fit"] == 2  # stage A, and the rest
    assert third.seconds["fit"] == 3


def test_other_settings_and_other_pictures_share_nothing(tiny_loaded, item, steps_done):
    fits = Fits(tiny_loaded)
    fits(item, settings(2), Clock())
    other = settings(2)
    fits(item, dataclasses.replace(other, seed=1), Clock())
    rate = dataclasses.replace(other.embedding, learning_rate=2e-2)
    fits(item, dataclasses.replace(other, embedding=rate), Clock())
    back = item._replace(given=item.pictures()[1][0])
    fits(back, other, Clock())
    assert steps_done == [2, 2, 2, 2]
