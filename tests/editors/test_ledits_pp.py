"""LEDITS++: where its masks are, and what it falls back to."""

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from editing import inputs_for, sampling_for

from imagic_jax.backbones.contracts import Extra
from imagic_jax.editors import attention, implicit_masks, ledits_pp
from imagic_jax.editors.contracts import Concept
from imagic_jax.errors import UserError

KEY = jax.random.key(0)


def masks(attention=True, noise=True):
    return implicit_masks.Masks(jnp.bool(attention), jnp.bool(noise), jnp.ones((1, 1, 1, 1)))


@pytest.fixture(autouse=True)
def quick_compilation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def test_the_noise_mask_keeps_the_loudest_positions_of_all_channels():
    g = jax.random.normal(KEY, (2, 1, 32, 32, 4))
    mask = implicit_masks.noise_mask(g, jnp.array([0.9, 0.5]))
    np.testing.assert_allclose(mask.sum(axis=(1, 2, 3, 4)), [103, 512], atol=1)
    size = np.abs(g).sum(-1, keepdims=True)
    for s, m in zip(np.asarray(size), np.asarray(mask), strict=True):
        assert s[m == 1].min() >= s[m == 0].max()


def test_the_attention_mask_is_smooth_and_lies_on_the_grid_of_x_t():
    read = np.zeros((1, 8, 8), np.float32)
    read[0, 2, 5] = 1
    mask = implicit_masks.attention_mask(jnp.asarray(read.reshape(1, 64)), jnp.array([0.86]), 16)
    assert mask.shape == (1, 1, 16, 16, 1)
    ones = np.argwhere(np.asarray(mask[0, 0, ..., 0]))
    assert ones.min(axis=0).tolist() == [2, 8]  # rows 1-3 and columns 4-6 of 8, twice as fine
    assert ones.max(axis=0).tolist() == [7, 13]
    assert len(ones) == 36
    even = implicit_masks.attention_mask(jnp.ones((1, 64)), jnp.array([0.9]), 16)
    assert np.all(even == 1)


@pytest.mark.parametrize("which", ["attention", "noise", "both", "neither"])
def test_masks_work_together_and_attention_alone_in_much_noise(which):
    g, read = jax.random.normal(KEY, (1, 1, 16, 16, 4)), jax.random.uniform(KEY, (1, 16))
    threshold = jnp.array([0.7])
    how = masks(which in ("attention", "both"), which in ("noise", "both"))
    late, early = (implicit_masks.confined(g, read, threshold, jnp.bool(n), how) for n in (0, 1))
    here = np.asarray(implicit_masks.attention_mask(read, threshold, 16))
    there = np.asarray(implicit_masks.noise_mask(g, threshold))
    g = np.asarray(g)
    kept = {"attention": g * here, "noise": g * there, "both": g * here * there, "neither": g}
    np.testing.assert_array_equal(late, kept[which])
    np.testing.assert_array_equal(early, kept["attention" if which == "both" else which])


def test_what_is_read_of_all_words_is_all_and_of_no_word_nothing(model):
    cascade, params = model.cascade, model.params
    stage, p = cascade.stages[0], params["stages"][0]
    cond = cascade.text.encode(params["text"], ["dog", "red dog"])[0]
    length = cond.states.shape[1]
    words = jnp.stack([jnp.ones(length), jnp.zeros(length)])
    x = jax.random.normal(KEY, stage.sample_shape(2))

    @jax.jit
    def read(p, x, cond):
        eye = implicit_masks.reading(stage, words)
        plain = stage.predict(p, x, jnp.int32(500), cond, Extra())[0].eps
        seen, aux = stage.predict(p, x, jnp.int32(500), cond, Extra(), eye)
        return plain, seen.eps, attention.handed_out(aux, "read")

    plain, seen, maps = read(p, x, cond)
    np.testing.assert_allclose(plain, seen, atol=1e-6)  # reading changes nothing
    sites = implicit_masks.sites(stage)
    assert len(maps) == len(sites) > 0
    for site in sites:
        got = np.asarray(maps[site.path])
        assert got.shape == (2, site.side**2)
        np.testing.assert_allclose(got[0], round(float(got[0, 0])), rtol=1e-5)  # one per head
        assert np.all(got[1] == 0)


def render(loaded, numbers, mask=None, key=KEY, **config):
    cascade, params = loaded.cascade, loaded.params
    cond = cascade.text.encode(params["text"], ["red"])[0]
    concept = Concept(cond, warmup=0, tokens=cascade.text.own_tokens("red"), **numbers)
    inputs = inputs_for(loaded, mask=mask, concepts=(concept,))._replace(source=None)
    config, sampling = ledits_pp.Config(**config), sampling_for(loaded, 4)
    fit = ledits_pp.fit(cascade, params, inputs, config, sampling, key)
    args = (inputs, fit, config, sampling, (1.0, 0.5), (0,))
    return fit, ledits_pp.render(cascade, params, *args)[:, 0]


def test_a_silent_concept_gives_the_picture_back_and_a_loud_one_does_not(model):
    stage, p = model.cascade.stages[0], model.params["stages"][0]
    fit, silent = render(model, {"scale": 0.0})
    back = stage.finish(p, fit.latents[-1])
    # up to the model's last digits, which differ between batches of one row and of two
    np.testing.assert_allclose(silent, np.repeat(back, 2, 0), atol=1e-3)
    _, loud = render(model, {"scale": 20.0, "threshold": 0.5})
    assert np.abs(loud - silent).max() > 1e-3
    _, masked = render(model, {"scale": 20.0}, mask=0)
    np.testing.assert_allclose(masked, silent, atol=1e-4)


def test_own_tokens_are_the_words_between_start_and_end(tiny_loaded, sd_loaded):
    for loaded, start in ((tiny_loaded, 0), (sd_loaded, 1)):  # T5 has no start token
        tokens = loaded.cascade.text.own_tokens("red dog")
        assert np.flatnonzero(tokens).tolist() == [start, start + 1]
        assert not loaded.cascade.text.own_tokens("").any()


def test_what_it_cannot_do_is_said(tiny_loaded):
    assert "no attention" in ledits_pp.refuses(analytic.cascade())
    config, sampling = ledits_pp.Config(), sampling_for(tiny_loaded)
    args = (tiny_loaded.cascade, tiny_loaded.params, inputs_for(tiny_loaded))
    fit = ledits_pp.fit(*args, config, sampling, KEY)
    with pytest.raises(UserError, match="needs a concept"):
        ledits_pp.render(*args, fit, config, sampling, (1.0,), (0,))
