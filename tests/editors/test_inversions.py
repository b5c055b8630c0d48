"""Editors that invert the picture, against the closed forms of a Gaussian world."""

import analytic
import jax
import numpy as np
import pytest

from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion.schedule import Schedule, grid
from imagic_jax.editors import ddib, ddim_inversion, ddpm_inversion
from imagic_jax.editors.contracts import Inputs
from imagic_jax.errors import UserError
from imagic_jax.runtime.checkpoint import Checkpoints

IMAGE = jax.random.uniform(jax.random.key(5), (1, 4, 4, 3), minval=-1.0)
SOURCE, TARGET, NULL = ((analytic.cond(mean),) for mean in (0.3, -0.4, 0.0))
INPUTS = Inputs(IMAGE, TARGET, NULL, SOURCE)
KEY = jax.random.key(0)


def edited(module, inputs=INPUTS, steps=50, guidance=None, strengths=(1.0,), seeds=(0,), **stage):
    """(fit, pictures) of one method."""
    given = dict(module.Config.__dataclass_fields__)
    config = module.Config(**{k: stage.pop(k) for k in list(stage) if k in given})
    cascade, sampling = analytic.cascade(**stage), Sampling(steps=(steps,), guidance=(guidance,))
    fit = module.fit(cascade, analytic.PARAMS, inputs, config, sampling, KEY)
    args = (inputs, fit, config, sampling, strengths, seeds)
    return fit, module.render(cascade, analytic.PARAMS, *args)


def bridge(x, steps):
    """Where DDIB's two flows carry a picture, exactly."""
    stage = analytic.GaussianStage()
    top, end = grid(stage.schedule, steps).abar[0], stage.schedule.final_alpha_cumprod()
    wide, narrow = (np.sqrt(a * stage.std**2 + 1 - a) for a in (top, end))
    x_t = np.sqrt(top) * 0.3 + (x - np.sqrt(end) * 0.3) * wide / narrow
    return np.sqrt(end) * -0.4 + (x_t - np.sqrt(top) * -0.4) * narrow / wide


def test_ddib_follows_the_closed_form_to_first_order():
    errors = []
    for steps in (50, 100, 250, 500):
        _, drawn = edited(ddib, steps=steps)
        errors.append(np.sqrt(np.mean((drawn[0, 0] - bridge(np.asarray(IMAGE[0]), steps)) ** 2)))
    assert errors[-1] < 0.01
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), [2, 2.5, 2], rtol=0.15)


@pytest.mark.parametrize("convention", ["destination", "origin"])
def test_ddib_there_and_back_is_a_cycle(convention):
    steps = 500
    _, there = edited(ddib, steps=steps, convention=convention)
    back_inputs = Inputs(there[0], SOURCE, NULL, TARGET)
    _, back = edited(ddib, back_inputs, steps=steps, convention=convention)
    assert np.abs(there[0] - IMAGE).max() > 0.5
    np.testing.assert_allclose(back[0], IMAGE, atol=0.04)


def test_ddib_and_guidance_do_not_meet():
    plain, guided = (edited(ddib, guidance=g)[1] for g in (None, 7.5))
    np.testing.assert_array_equal(plain, guided)


@pytest.mark.parametrize("module", [ddib, ddim_inversion, ddpm_inversion])
def test_no_strength_gives_the_picture_and_seeds_change_nothing(module):
    _, drawn = edited(module, strengths=(0.0, 0.3, 1.0), seeds=(0, 9), guidance=2.0)
    assert drawn.shape == (3, 2, 4, 4, 3)
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 1])
    np.testing.assert_allclose(drawn[0, 0], IMAGE[0], atol=1e-6)
    away = np.abs(drawn[:, 0] - np.asarray(IMAGE)).mean(axis=(1, 2, 3))
    assert np.all(np.diff(away) > 0)


def test_ddim_inversion_comes_back_without_guidance_and_less_with_it():
    same = INPUTS._replace(target=SOURCE)
    plain = edited(ddim_inversion, same, bend=0.1)[1]
    guided = edited(ddim_inversion, same, guidance=7.5, bend=0.1)[1]
    without, far = (np.abs(a[0] - IMAGE).mean() for a in (plain, guided))
    assert without < 0.05
    assert far > 3 * without
    empty = edited(ddim_inversion, Inputs(IMAGE, NULL, NULL), guidance=7.5)[1]
    np.testing.assert_allclose(empty[0], IMAGE, atol=0.1)  # no source text: the empty one


@pytest.mark.parametrize("strength", [1.0, 0.64, 0.02])
def test_ddpm_inversion_under_the_source_text_is_the_picture(strength):
    same = INPUTS._replace(target=SOURCE)
    _, drawn = edited(ddpm_inversion, same, 100, 3.5, (strength,), bend=0.1)
    np.testing.assert_allclose(drawn[0], IMAGE, atol=1e-6, rtol=0)
    _, drawn = edited(ddpm_inversion, Inputs(IMAGE, NULL, NULL), 100, 15.0, (strength,), bend=0.1)
    np.testing.assert_allclose(drawn[0], IMAGE, atol=2e-6, rtol=0)  # empty source and target


def test_ddpm_inversion_moves_towards_the_text_and_another_key_moves_otherwise():
    _, drawn = edited(ddpm_inversion, INPUTS, 100, 3.0, (0.64,))
    assert (drawn - np.asarray(IMAGE)).mean() < -0.2
    cascade, sampling = analytic.cascade(), Sampling(steps=(100,), guidance=(3.0,))
    args = (cascade, analytic.PARAMS, INPUTS, ddpm_inversion.Config(), sampling)
    one, same, other = (ddpm_inversion.fit(*args, jax.random.key(k)).noises for k in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1


def test_an_inversion_is_saved_and_rendered_again(tmp_path):
    cascade, sampling = analytic.cascade(), Sampling(steps=(20,), guidance=(3.0,))
    config = ddpm_inversion.Config()
    fit = ddpm_inversion.fit(cascade, analytic.PARAMS, INPUTS, config, sampling, KEY)
    with Checkpoints(tmp_path) as saved:
        saved.save(0, fit)
        again = saved.restore(jax.tree.map(np.zeros_like, fit))
    args = (config, sampling, (0.5,), (0,))
    before, after = (
        ddpm_inversion.render(cascade, analytic.PARAMS, INPUTS, f, *args) for f in (fit, again)
    )
    np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_any_prediction_type_comes_back(prediction, monkeypatch):
    from imagic_jax.diffusion.prediction import from_output, target

    schedule = Schedule(
        beta_schedule="squaredcos_cap_v2", prediction_type=prediction, clip_sample=False
    )
    told = analytic.GaussianStage.predict

    def predict(self, params, x_t, t, *rest):
        """The same answer by way of a network of another kind."""
        p, aux = told(self, params, x_t, t, *rest)
        output = target(schedule, p.x0, p.eps, t)
        abar, left = schedule.abar(t), schedule.one_minus_abar(t)
        return from_output(prediction, output, x_t, abar, left), aux

    monkeypatch.setattr(analytic.GaussianStage, "predict", predict)
    monkeypatch.setattr(analytic.GaussianStage, "name", prediction, raising=False)
    same = INPUTS._replace(target=SOURCE)
    stage = {"schedule": schedule, "name": prediction}  # its name keeps compiled programs apart
    fit, drawn = edited(ddpm_inversion, same, 50, 3.5, (1.0, 0.5), **stage)
    np.testing.assert_allclose(drawn[:, 0], np.repeat(fit.latents[-1], 2, 0), atol=1e-6)
    np.testing.assert_allclose(drawn[0], IMAGE, atol=0.03)  # the last step has no noise
    _, drawn = edited(ddim_inversion, same, 100, None, **stage)
    np.testing.assert_allclose(drawn[0], IMAGE, atol=0.1)


def test_what_is_missing_or_out_of_range_is_said():
    with pytest.raises(UserError, match="needs a source text"):
        edited(ddib, INPUTS._replace(source=None))
    with pytest.raises(UserError, match="between 0"):
        edited(ddpm_inversion, strengths=(1.2,))
