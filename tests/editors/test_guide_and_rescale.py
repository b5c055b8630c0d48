"""Guide-and-Rescale: its energy, its norm, what it reduces to."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from editing import inputs_for, sampling_for

from imagic_jax.backbones.contracts import Extra
from imagic_jax.diffusion import inversion
from imagic_jax.diffusion.schedule import grid
from imagic_jax.editors import attention, ddim_inversion, guiders
from imagic_jax.editors import guide_and_rescale as gr
from imagic_jax.editors.guide_and_rescale import STYLE, Config
from imagic_jax.editors.guiders import Compared
from imagic_jax.errors import UserError
from imagic_jax.models import UNet2DCondition
from imagic_jax.runtime.compilation import counted

STEPS = 4


def prepared(loaded):
    inputs, sampling = inputs_for(loaded), sampling_for(loaded, STEPS)
    args = (inputs, Config(), sampling, jax.random.key(0))
    return inputs, sampling, gr.fit(loaded.cascade, loaded.params, *args)


def edit(loaded, inputs, found, config, guided=STEPS):
    stage = loaded.cascade.stages[0]
    texts = inputs.source[0], inputs.target[0], inputs.null[0]
    return gr.edit(
        stage, loaded.params["stages"][0], found, texts, gr._traced(config, 3.0),
        grid(stage.schedule, STEPS), jnp.int32(guided), how=gr._compared(config),
    )  # fmt: skip


def test_without_guiders_it_is_ddim_inversion(slow_model):
    inputs, _, found = prepared(slow_model)
    stage, params = slow_model.cascade.stages[0], slow_model.params["stages"][0]
    levels = grid(stage.schedule, STEPS)
    plain = ddim_inversion.decode(
        stage, params, found, inputs.target[0], inputs.null[0], jnp.float32(3.0), levels,
        jnp.int32(0), guided=True,
    )  # fmt: skip
    none, _ = edit(slow_model, inputs, found, Config(self_weight=0.0, feature_weight=0.0))
    unguided, ratios = edit(slow_model, inputs, found, Config(), guided=0)
    np.testing.assert_allclose(none, plain, atol=2e-4)
    np.testing.assert_allclose(unguided, plain, atol=2e-4)
    assert not ratios.any()


def test_the_guiders_norm_stays_in_its_interval(slow_model):
    inputs, _, found = prepared(slow_model)
    for low, high in ((0.33, 3.0), (5.0, 6.0), (1e-4, 2e-4)):
        picture, ratios = edit(slow_model, inputs, found, Config(low=low, high=high), guided=3)
        assert ratios[0] == 0  # the first latent is the source's own
        assert np.all((ratios[1:3] > low * 0.999) & (ratios[1:3] < high * 1.001))
        assert ratios[3] == 0
        assert np.isfinite(picture).all()


def test_with_one_factor_the_weights_common_scale_does_not_matter(slow_model):
    inputs, _, found = prepared(slow_model)
    style = STYLE
    more = dataclasses.replace(
        style, self_weight=7 * style.self_weight, feature_weight=7 * style.feature_weight
    )
    (one, ratios), (seven, _) = (edit(slow_model, inputs, found, c) for c in (style, more))
    np.testing.assert_allclose(ratios, 1.5, rtol=1e-3)
    np.testing.assert_allclose(one, seven, atol=2e-3)


def reader(stage, params, source, z_source, t, how):
    _, aux = stage.predict(params, z_source, t, source, Extra(), guiders.reading(stage, how))
    queries, keys = (attention.handed_out(aux, n) for n in ("queries", "keys"))
    (features,) = attention.handed_out(aux, "features").values()
    return {p: (queries[p], keys[p]) for p in queries}, features


@pytest.mark.slow
def test_a_guided_step_lowers_the_energy(tiny_loaded):
    inputs, _, found = prepared(tiny_loaded)
    stage, params = tiny_loaded.cascade.stages[0], tiny_loaded.params["stages"][0]
    levels, how = grid(stage.schedule, STEPS), Compared()
    texts = inputs.source[0], inputs.target[0], inputs.null[0]
    z = found.latents[1] + 0.1 * jax.random.normal(jax.random.key(1), found.latents[1].shape)

    @jax.jit
    def after(weights):
        traced = gr._traced(Config(low=0.05, high=0.05), 3.0)
        traced = traced._replace(self_weight=weights[0], feature_weight=weights[1])
        args = (texts, z, found.latents[1], inversion.row(levels, 1))
        z_next, _ = gr.guided_step(stage, params, how, traced, *args)
        t = levels.t[2]
        kept = reader(stage, params, texts[0], found.latents[2], t, how)
        weights = jnp.float32(Config.self_weight), jnp.float32(Config.feature_weight)
        return guiders.energy(stage, params, how, weights, kept, *texts[:2], z_next, t)

    free = after((jnp.float32(0), jnp.float32(0)))
    led = after((jnp.float32(Config.self_weight), jnp.float32(Config.feature_weight)))
    assert 0 < led < free


@pytest.mark.slow
@pytest.mark.parametrize("features", ["detail", "layout"])
def test_the_gradient_is_that_of_the_energy(tiny_loaded, features):
    with jax.enable_x64(True):
        wide = functools.partial(jax.tree.map, lambda a: jnp.asarray(a, jnp.float64))
        stage = tiny_loaded.cascade.stages[0]
        unet = UNet2DCondition(stage.unet.config, jnp.float64)
        stage = dataclasses.replace(stage, unet=unet)
        params = wide(tiny_loaded.params["stages"][0])
        inputs = inputs_for(tiny_loaded)
        source, target = wide(inputs.source[0]), wide(inputs.target[0])
        z, z_source, v = jax.random.normal(
            jax.random.key(0), (3, *stage.sample_shape(1)), jnp.float64
        )
        t, how = jnp.int32(400), Compared(features)
        weights = jnp.float64(1000.0), jnp.float64(10.0)

        @jax.jit
        @jax.value_and_grad
        def g(z):
            kept = reader(stage, params, source, z_source, t, how)
            return guiders.energy(stage, params, how, weights, kept, source, target, z, t)

        step = 1e-5
        measured = (g(z + step * v)[0] - g(z - step * v)[0]) / (2 * step)
        expected = jnp.vdot(g(z)[1], v)
        assert abs(expected) > 1e-2
        np.testing.assert_allclose(measured, expected, rtol=1e-3)


def test_maps_are_compared_block_by_block_and_never_whole(monkeypatch):
    q, k, q2, k2 = jax.random.normal(jax.random.key(0), (4, 1, 12, 2, 3))

    def maps(q, k):
        return jax.nn.softmax(jnp.einsum("bnhd,bmhd->bhnm", q, k) * 3**-0.5)

    expected = jnp.square(maps(q, k) - maps(q2, k2)).mean()
    whole = guiders.map_distance(q, k, q2, k2)
    monkeypatch.setattr(guiders, "_ROWS", 4)
    blocks, slope = jax.value_and_grad(guiders.map_distance)(q, k, q2, k2)
    np.testing.assert_allclose(whole, expected, rtol=1e-5)
    np.testing.assert_allclose(blocks, expected, rtol=1e-5)
    monkeypatch.undo()
    np.testing.assert_allclose(slope, jax.grad(guiders.map_distance)(q, k, q2, k2), atol=1e-7)
    shape = jax.ShapeDtypeStruct((1, 4096, 8, 40), jnp.float32)
    text = str(jax.make_jaxpr(jax.grad(guiders.map_distance))(*[shape] * 4))
    assert "1024,4096" in text
    assert "4096,4096" not in text


def test_renders_at_every_strength_and_compiles_once(slow_model):
    inputs, sampling, found = prepared(slow_model)
    args = (slow_model.cascade, slow_model.params, inputs, found)
    drawn = gr.render(*args, Config(), sampling, [1.0, 0.0], [0, 1])
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4
    with counted() as seen:
        gr.render(*args, Config(high=2.0, feature_weight=1.0), sampling, [0.5], [3])
    assert seen.programs == 0


def test_it_is_measured_by_text_guidance(tiny_loaded):
    inputs, sampling, found = prepared(tiny_loaded)
    sampling = dataclasses.replace(sampling, guidance=(None,) * 3)
    with pytest.raises(UserError, match="guidance above 1"):
        gr.render(*tiny_loaded[:2], inputs, found, Config(), sampling, [0.5], [0])


def test_its_program_can_be_lowered_from_shapes(tiny_loaded):
    shapes = {"stages": tiny_loaded.opened.stage_shapes()}
    inputs = inputs_for(tiny_loaded)
    sampling = sampling_for(tiny_loaded, STEPS)
    (lower,) = gr.programs(
        tiny_loaded.cascade, shapes, inputs.target[0], Config(), sampling
    ).values()
    assert lower().as_text()
