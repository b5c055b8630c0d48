"""SDEdit against the closed form of a Gaussian world, and on a cascade."""

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones.generate import Sampling, seed_keys
from imagic_jax.diffusion.schedule import grid
from imagic_jax.editors import contracts, sdedit
from imagic_jax.editors.contracts import Inputs
from imagic_jax.runtime.compilation import counted

IMAGE = jax.random.uniform(jax.random.key(5), (1, 4, 4, 3), minval=-1.0)
INPUTS = Inputs(IMAGE, (analytic.cond(0.4),), (analytic.cond(0.0),))


def render(strengths, seeds, steps=200, guidance=None, batch=2, inputs=INPUTS):
    sampling = Sampling(steps=(steps,), guidance=(guidance,), batch=batch)
    args = (sdedit.Config(), sampling, strengths, seeds)
    return sdedit.render(analytic.cascade(), analytic.PARAMS, inputs, None, *args)


def test_follows_the_flow_of_the_noised_picture():
    steps, strength = 1000, 0.5
    drawn = render([strength], [3], steps)[0, 0]
    stage = analytic.GaussianStage()
    rows = grid(stage.schedule, steps)
    start = contracts.first_step(steps, strength)
    noise = jax.random.normal(jax.random.fold_in(seed_keys([3], 0)[0], 0), (4, 4, 3))
    top, end = rows.abar[start], stage.schedule.final_alpha_cumprod()
    x = jnp.sqrt(top) * IMAGE[0] + jnp.sqrt(1 - top) * noise
    scale = lambda a: np.sqrt(a * stage.std**2 + 1 - a)  # noqa: E731
    exact = np.sqrt(end) * 0.4 + (x - np.sqrt(top) * 0.4) / scale(top) * scale(end)
    np.testing.assert_allclose(drawn, exact, atol=5e-3)


def test_no_strength_gives_the_picture_and_more_leaves_it_further_behind():
    drawn = render([0.0, 0.2, 0.5, 1.0], [0, 1, 2], 50)
    np.testing.assert_array_equal(drawn[0], np.broadcast_to(IMAGE, drawn[0].shape))
    away = np.abs(drawn - np.asarray(IMAGE)).mean(axis=(1, 2, 3, 4))
    assert np.all(np.diff(away) > 0)


def test_a_picture_depends_on_its_seed_alone_and_nothing_is_compiled_again():
    first = render([0.5], [0, 1, 2], 50)
    with counted() as seen:
        again = render([0.3, 0.5], [1, 7], 40)
        again = render([0.3, 0.5], [1, 7], 50)
    assert seen.programs == 0
    np.testing.assert_array_equal(again[1, 0], first[0, 1])


@pytest.mark.parametrize("guidance", [None, 3.0])
def test_the_stages_behind_it_draw_the_edit_larger(tiny_loaded, guidance):
    cascade, params = tiny_loaded.cascade, tiny_loaded.params
    target, null = (cascade.text.encode(params["text"], [t]) for t in ("a red dog", ""))
    image = jnp.linspace(-1, 1, cascade.size**2 * 3).reshape(1, cascade.size, cascade.size, 3)
    n = len(cascade.stages)
    sampling = Sampling(steps=(4,) * n, guidance=(guidance,) + (None,) * (n - 1), batch=2)
    inputs = Inputs(image, target, null)
    base = sdedit.render(
        cascade, params, inputs, None, sdedit.Config(), sampling, [0.0, 0.5], [0, 1, 2]
    )
    size = cascade.stages[0].size
    assert base.shape == (2, 3, size, size, 3)
    large = contracts.enlarge(cascade, params, inputs, base, [0, 1, 2], sampling)
    assert large.shape == (2, 3, cascade.size, cascade.size, 3)
    assert np.isfinite(large).all()
    assert np.abs(large[0, 0] - large[0, 1]).max() > 0  # the larger stages draw from the seed
