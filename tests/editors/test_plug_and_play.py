"""Plug-and-play: what it reduces to."""

import jax
import jax.numpy as jnp
import numpy as np
from editing import inputs_for, sampling_for

from imagic_jax.backbones.contracts import Extra
from imagic_jax.diffusion import inversion, steps
from imagic_jax.diffusion.schedule import grid
from imagic_jax.diffusion.thresholding import limited
from imagic_jax.editors import ddim_inversion
from imagic_jax.editors import plug_and_play as pnp
from imagic_jax.editors.plug_and_play import Config
from imagic_jax.runtime.compilation import counted

STEPS = 4


def prepared(loaded):
    inputs, sampling = inputs_for(loaded), sampling_for(loaded, STEPS)
    args = (inputs, Config(), sampling, jax.random.key(0))
    return inputs, sampling, pnp.fit(loaded.cascade, loaded.params, *args)


def edit(loaded, found, texts, guidance, features, maps):
    stage = loaded.cascade.stages[0]
    return pnp.edit(
        stage, loaded.params["stages"][0], found, *texts, jnp.float32(guidance),
        grid(stage.schedule, STEPS), jnp.int32(features), jnp.int32(maps), guided=True,
    )  # fmt: skip


def test_nothing_taken_over_is_ddim_inversion(slow_model):
    inputs, _, found = prepared(slow_model)
    stage, params = slow_model.cascade.stages[0], slow_model.params["stages"][0]
    texts = inputs.source[0], inputs.target[0], inputs.null[0]
    none, features, maps = (
        edit(slow_model, found, texts, 3.0, *n) for n in ((0, 0), (STEPS, 0), (0, STEPS))
    )
    levels = grid(stage.schedule, STEPS)
    plain = ddim_inversion.decode(
        stage, params, found, *texts[1:], jnp.float32(3.0), levels, jnp.int32(0), guided=True
    )
    np.testing.assert_allclose(none, plain, atol=2e-4)
    assert np.abs(features - none).max() > 1e-3
    assert np.abs(maps - none).max() > 1e-3


def test_the_source_put_into_its_own_path_is_that_path(slow_model):
    """The path walked down under a text: its features are the ones that are there anyway."""
    inputs, _, found = prepared(slow_model)
    stage, params = slow_model.cascade.stages[0], slow_model.params["stages"][0]
    levels, text = grid(stage.schedule, STEPS), inputs.source[0]

    @jax.jit
    def down(x, level):
        p, _ = stage.predict(params, x, level.t, text, Extra())
        p = limited(stage.schedule, p, x, level.abar, level.one_minus_abar)
        return steps.ddim(p, level)

    path = [found.latents[0]]
    for i in range(STEPS):
        path.append(down(path[-1], inversion.row(levels, i)))
    own = inversion.Inversion(jnp.stack(path))
    drawn = edit(slow_model, own, (text, text, text), 1.0, STEPS, STEPS)
    np.testing.assert_allclose(drawn, stage.finish(params, path[-1]), atol=5e-4)


def test_renders_at_every_strength_and_compiles_once(model):
    inputs, sampling, found = prepared(model)
    args = (model.cascade, model.params, inputs, found, Config(), sampling)
    drawn = pnp.render(*args, [1.0, 0.0], [0, 1])
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-4
    with counted() as seen:
        pnp.render(*args[:4], Config(attention=0.1), sampling, [0.5], [3])
    assert seen.programs == 0
