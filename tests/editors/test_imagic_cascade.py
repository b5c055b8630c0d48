"""Imagic on a whole (tiny, random) cascade: reproducible, compiled once, saved and drawn again."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones import adapters
from imagic_jax.backbones.generate import Sampling, generate, seed_keys
from imagic_jax.diffusion.schedule import padded_grid
from imagic_jax.editors import imagic, sdedit
from imagic_jax.editors.imagic import EmbeddingConfig, TuningConfig
from imagic_jax.jobs import fits, pictures
from imagic_jax.models.conv import xla_conv
from imagic_jax.runtime.compilation import counted

EMBEDDING = EmbeddingConfig(steps=3, learning_rate=1e-2, batch=2)
TUNING = (TuningConfig(steps=3, batch=2), TuningConfig(steps=2, batch=2, train="conv_out"), None)
SAMPLING = Sampling(steps=(3, 2, 2), guidance=(2.0, None, None), batch=4)


def fit_of(loaded, seed=0, text="a sitting dog"):
    image = jax.random.uniform(jax.random.key(seed), (1, 64, 64, 3), minval=-1.0)
    encode = loaded.cascade.text.encode
    target, null = (encode(loaded.params["text"], [t]) for t in (text, ""))
    return imagic.fit(
        loaded.cascade, loaded.params, image, target, null, EMBEDDING, TUNING, jax.random.key(seed)
    )


def draw(loaded, fit, etas=(0.0, 1.0), seeds=(0, 1)):
    return imagic.render(loaded.cascade, loaded.params, fit, etas, seeds, SAMPLING)


@pytest.fixture(scope="module")
def fitted(tiny_loaded):
    return fit_of(tiny_loaded)


@pytest.fixture(scope="module")
def drawn(tiny_loaded, fitted):
    return draw(tiny_loaded, fitted)


def test_a_fit_holds_what_was_learnt(tiny_loaded, fitted):
    base, sr1, sr2 = fitted.stages
    assert base.optimised is not None
    assert float(jnp.abs(base.optimised.states - base.target.states).max()) > 0.005
    assert base.delta is not None
    assert set(base.delta) == set(adapters.flatten(tiny_loaded.params["stages"][0]))
    assert sr1.optimised is None
    assert sr1.delta is not None
    assert all("conv_out" in path for path in sr1.delta)
    assert sr2.delta is None


def test_pictures_have_the_final_size_and_range(drawn):
    assert drawn.shape == (2, 2, 64, 64, 3)
    assert float(jnp.abs(drawn).max()) <= 1.0
    assert not jnp.allclose(drawn[0, 0], drawn[0, 1])  # seeds differ
    assert not jnp.allclose(drawn[0, 0], drawn[1, 0])  # amounts differ


def test_drawing_from_the_picture_is_sdedit_with_the_tuned_model(tiny_loaded, fitted):
    image = jax.random.uniform(jax.random.key(0), (1, 64, 64, 3), minval=-1.0)
    stage, scale = tiny_loaded.cascade.stages[0], jnp.float32(2.0)
    tuned = adapters.merge(tiny_loaded.params["stages"][0], fitted.stages[0].delta)
    half = dataclasses.replace(SAMPLING, start=0.7)  # two of three steps
    seeds = (0, 1, 2, 3)
    ours = generate(
        tiny_loaded.cascade,
        (tuned, *tiny_loaded.params["stages"][1:]),
        imagic.conds_to_draw(fitted, (0.0,), seeds),
        fitted.null,
        seeds,
        half,
        stages=1,
        source=image,
    )
    theirs = sdedit.edit(
        stage,
        tuned,
        image,
        fitted.stages[0].optimised,
        fitted.null[0],
        seed_keys(seeds, 0),
        scale,
        *padded_grid(stage.schedule, 3, 1),
        guided=True,
        sampler="ddim",
    )
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_the_picture_decides_only_where_drawing_starts_from_it(tiny_loaded, fitted, drawn):
    def from_picture(start, seed):
        image = jax.random.uniform(jax.random.key(seed), (1, 64, 64, 3), minval=-1.0)
        sampling = dataclasses.replace(SAMPLING, start=start)
        cascade, params = tiny_loaded.cascade, tiny_loaded.params
        return imagic.render(cascade, params, fitted, (0.0, 1.0), (0, 1), sampling, image=image)

    np.testing.assert_array_equal(from_picture(1.0, 0), drawn)
    assert np.abs(from_picture(0.7, 0) - from_picture(0.7, 1)).max() > 0.01
    half = dataclasses.replace(SAMPLING, start=0.7)
    with pytest.raises(ValueError, match="starts from the picture"):
        imagic.render(tiny_loaded.cascade, tiny_loaded.params, fitted, (0.0,), (0,), half)


@pytest.mark.parametrize(
    ("start", "left_out"), [(1.0, 0), (0.95, 1), (0.5, 10), (0.99, 1), (1e-6, 19)]
)
def test_at_least_one_step_is_done(start, left_out):
    sampling = Sampling(steps=(20, 5), guidance=(None, None), start=start)
    assert sampling.left_out == left_out
    assert sampling.from_picture == (left_out > 0)


def test_a_second_edit_in_one_process_compiles_nothing(tiny_loaded, drawn):
    with counted(all_threads=True) as compiled:
        fit = fit_of(tiny_loaded, seed=3, text="a red car at night")
        draw(tiny_loaded, fit, etas=(0.1, 0.7, 0.9), seeds=(5, 6, 7))
    assert compiled.programs == 0


def test_a_picture_does_not_depend_on_its_neighbours_in_the_batch(tiny_loaded, fitted, drawn):
    everywhere = draw(tiny_loaded, fitted, etas=(1.0,), seeds=(1, 1, 1, 1))[0]
    alone = draw(tiny_loaded, fitted, etas=(1.0,), seeds=(1,))
    np.testing.assert_array_equal(everywhere[3], drawn[1, 1])  # in the last place, with others
    np.testing.assert_array_equal(everywhere[0], alone[0, 0])  # in the first, with padding
    np.testing.assert_allclose(alone[0, 0], drawn[1, 1], rtol=0, atol=1e-4)
    if convolutions_round_every_place_alike():
        np.testing.assert_array_equal(alone[0, 0], drawn[1, 1])


def convolutions_round_every_place_alike() -> bool:
    """Whether XLA gives equal pictures equal bits in every place of the batch, by itself.

    It does not on CPUs without AVX-512: rows that are no whole tile are left over for the end, and
    summed in another order.
    """
    picture, kernel = (
        jax.random.normal(jax.random.key(i), shape)
        for i, shape in enumerate([(1, 8, 8, 16), (3, 3, 16, 16)])
    )
    out = jax.jit(lambda x: xla_conv(x, kernel, 1, 1))(jnp.repeat(picture, 8, axis=0))
    return bool((out == out[:1]).all())


def test_the_same_key_gives_the_same_fit(tiny_loaded, fitted):
    again = fit_of(tiny_loaded)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(fitted), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_saved_fit_draws_the_same_bits(tiny_loaded, fitted, drawn, tmp_path):
    square = pictures.to_pil(np.zeros((64, 64, 3), np.float32))
    fits.save_fit(tmp_path / "fit", fitted, {"text": "a sitting dog"}, square)
    back = fits.load_fit(tmp_path / "fit")
    np.testing.assert_array_equal(draw(tiny_loaded, back), drawn)
    assert fits.read_about(tmp_path / "fit")["text"] == "a sitting dog"
