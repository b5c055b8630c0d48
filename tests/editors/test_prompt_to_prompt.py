"""Prompt-to-prompt: what it reduces to, and that the edit keeps what it says."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from editing import inputs_for, sampling_for

from imagic_jax.backbones.contracts import Extra, stack
from imagic_jax.diffusion.schedule import grid
from imagic_jax.editors import attention, ddim_inversion, words
from imagic_jax.editors import prompt_to_prompt as p2p
from imagic_jax.editors.prompt_to_prompt import Config
from imagic_jax.errors import UserError
from imagic_jax.runtime.compilation import counted

STEPS = 4
TEXTS = "a dog now", "a red now"
CONFIG = Config(finest=1.0)


def prepared(loaded, source=TEXTS[0], target=TEXTS[1], **how):
    inputs = inputs_for(loaded, source, target)
    inputs = inputs._replace(words=words.align(loaded.cascade, source, target, **how))
    sampling = sampling_for(loaded, STEPS)
    found = p2p.fit(loaded.cascade, loaded.params, inputs, CONFIG, sampling, jax.random.key(0))
    return inputs, sampling, found


def edit(loaded, inputs, found, cross, own):
    stage = loaded.cascade.stages[0]
    counts = jnp.int32(cross), jnp.int32(own)
    texts = inputs.source[0], inputs.target[0], inputs.source[0]
    return p2p.edit(
        stage, loaded.params["stages"][0], found, *texts, jax.tree.map(jnp.asarray, inputs.words),
        jnp.float32(3.0), grid(stage.schedule, STEPS), *counts,
        guided=True, finest=1.0, place=bool(inputs.words.place.any()),
    )  # fmt: skip


def plain(loaded, inputs, found):
    stage = loaded.cascade.stages[0]
    return ddim_inversion.decode(
        stage, loaded.params["stages"][0], found, inputs.target[0], inputs.source[0],
        jnp.float32(3.0), grid(stage.schedule, STEPS), jnp.int32(0), guided=True,
    )  # fmt: skip


def test_the_same_text_draws_the_same_picture(slow_model):
    inputs, _, found = prepared(slow_model, TEXTS[0], TEXTS[0])
    both = edit(slow_model, inputs, found, STEPS, STEPS)
    np.testing.assert_array_equal(both[0], both[1])


def test_nothing_kept_is_ddim_inversion_and_the_kept_row_never_moves(slow_model):
    inputs, _, found = prepared(slow_model)
    none, cross, own = (
        edit(slow_model, inputs, found, *n) for n in ((0, 0), (STEPS, 0), (0, STEPS))
    )
    np.testing.assert_allclose(none[1:], plain(slow_model, inputs, found), atol=2e-4)
    for other in (cross, own):
        np.testing.assert_allclose(other[0], none[0], atol=1e-6)
        assert np.abs(other[1] - none[1]).max() > 1e-3


def test_the_target_reads_its_own_values_by_the_sources_maps(slow_model):
    inputs, _, found = prepared(slow_model)
    stage, params = slow_model.cascade.stages[0], slow_model.params["stages"][0]
    x = jnp.concatenate(found.latents[:2])  # two different latents
    texts = stack(inputs.source[0], inputs.target[0])

    def note(call):
        out = call.own(call.q, call.k, call.v)
        for name, value in zip("qkvo", (call.q, call.k, call.v, out), strict=True):
            call.sow(name, value)
        return out

    @jax.jit
    def run():
        how = p2p.Control(jax.tree.map(jnp.asarray, inputs.words), jnp.array(True), jnp.array(True))
        sites = {s for s in stage.sites() if s.role != "features"}
        noted = attention.both(
            attention.at_attention(sites, note), p2p.control(stage, how, 1.0, False)
        )
        return stage.predict(params, x, jnp.int32(500), texts, Extra(), noted)[1]

    aux = run()
    length = texts.states.shape[1]
    mapper = inputs.words.mapper
    for site in stage.sites():
        if site.role == "features":
            continue
        q, k, v, out = (attention.handed_out(aux, n)[site.path] for n in "qkvo")
        maps = attention.parts(q, k, {"self": 0, "cross": length, "joint": length}[site.role])
        text = None if maps.text is None else (maps.text[:1] @ mapper)
        pixels = None if maps.pixels is None else maps.pixels[:1]
        expected = attention.read(attention.Parts(text, pixels, maps.share[1:]), v[1:])
        np.testing.assert_allclose(out[1:], expected, atol=1e-5)


def test_a_word_is_reweighted(slow_model):
    inputs, _, found = prepared(slow_model)
    heavier = words.align(slow_model.cascade, *TEXTS, emphasis={"red": 3.0})
    one, more = (
        edit(slow_model, i, found, STEPS, 0) for i in (inputs, inputs._replace(words=heavier))
    )
    np.testing.assert_allclose(one[0], more[0], atol=1e-6)
    assert np.abs(one[1] - more[1]).max() > 1e-3


def test_the_place_of_words_is_where_the_edit_stays():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 4))
    seen = jnp.zeros((2, 4, 4)).at[0, 0, 0].set(5.0).at[1, 3, 3].set(0.1)
    out = p2p.blended(x, seen.reshape(2, 16))
    inside = np.zeros((8, 8), bool)
    inside[:4, :4] = inside[4:, 4:] = True  # a cell and its neighbours, twice as fine
    np.testing.assert_array_equal(out[0], x[0])
    np.testing.assert_array_equal(out[1], np.where(inside[..., None], x[1], x[0]))


def test_a_place_on_a_cascade(tiny_loaded):
    inputs, _, found = prepared(tiny_loaded, place=(["dog"], ["red"]))
    both = edit(tiny_loaded, inputs, found, STEPS, 0)
    assert np.isfinite(both).all()


def test_renders_the_same_for_every_seed_and_compiles_once(model):
    inputs, sampling, found = prepared(model)
    config = dataclasses.replace(CONFIG, away="source")
    args = (model.cascade, model.params, inputs, found, config, sampling)
    drawn = p2p.render(*args, [1.0, 0.0], [0, 1])
    assert drawn.shape == (2, 2, *([model.cascade.stages[0].size] * 2), 3)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4
    other = prepared(model, "a now", "a red now")[0]
    with counted() as seen:
        p2p.render(
            *args[:2], other, found, dataclasses.replace(config, self_replace=0.5), sampling,
            [0.5], [3],
        )  # fmt: skip
    assert seen.programs == 0


def test_null_texts_of_each_step_take_the_place_of_the_empty_one(tiny_loaded):
    inputs, _, found = prepared(tiny_loaded)
    nulls = jnp.stack([inputs.source[0].states] * STEPS)
    own = edit(tiny_loaded, inputs, found._replace(cond_overrides=nulls), STEPS, 0)
    np.testing.assert_allclose(own, edit(tiny_loaded, inputs, found, STEPS, 0), atol=1e-5)


def test_what_it_needs_is_said(tiny_loaded):
    inputs, sampling, found = prepared(tiny_loaded)
    args = (CONFIG, sampling, [0.5], [0])
    with pytest.raises(UserError, match="needs a source text"):
        p2p.render(*tiny_loaded[:2], inputs._replace(source=None), found, *args)
    with pytest.raises(UserError, match=r"words\.align"):
        p2p.render(*tiny_loaded[:2], inputs._replace(words=None), found, *args)
