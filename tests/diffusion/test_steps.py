"""Sampler steps against recorded diffusers steps, and against their own definitions."""

import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.diffusion import steps
from imagic_jax.diffusion.prediction import Prediction, from_output, with_x0
from imagic_jax.diffusion.schedule import Grid, Schedule, grid
from imagic_jax.diffusion.thresholding import dynamic_threshold, limit

SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SD |= {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
X4 = SD | {"beta_start": 0.0001, "beta_end": 0.02, "prediction_type": "v_prediction"}
IF = {"beta_schedule": "squaredcos_cap_v2", "variance_type": "learned_range", "thresholding": True}
IF |= {"dynamic_thresholding_ratio": 0.95}
LOW_RES = {"beta_schedule": "scaled_linear", "clip_sample": True}
DDIM = {
    "scheduler_sd1_ddim": SD,
    "scheduler_sd21_ddim_v": SD | {"prediction_type": "v_prediction"},
    "scheduler_x4_ddim_v": X4,
}
DDPM = {
    "scheduler_if_i_ddpm": IF | {"sample_max_value": 1.5},
    "scheduler_if_ii_ddpm": IF | {"sample_max_value": 1.0},
    "scheduler_x4_low_res_ddpm": LOW_RES,
}


def nhwc(a):
    return jnp.asarray(np.moveaxis(a, 1, -1))


def row(schedule, t) -> Grid:
    rows = grid(schedule, 50)
    at = int(np.flatnonzero(np.asarray(rows.t) == t)[0])
    return Grid(*(a[at] for a in rows))


def predicted(recorded, schedule, level, learned=False):
    x, output = nhwc(recorded["x"]), nhwc(recorded["eps"])
    if learned:
        output = jnp.concatenate([output, nhwc(recorded["var"])], axis=-1)
    p = from_output(schedule.prediction_type, output, x, level.abar, level.one_minus_abar)
    limited = limit(schedule, p.x0)
    return x, with_x0(p, limited, x, level.abar, level.one_minus_abar)


@pytest.mark.parametrize("t", [981, 481, 1])
@pytest.mark.parametrize("name", DDIM)
def test_ddim_is_diffusers(recorded, name, t):
    schedule = Schedule.from_config(DDIM[name])
    level = row(schedule, t)
    _, p = predicted(recorded, schedule, level)
    np.testing.assert_allclose(
        steps.ddim(p, level), nhwc(recorded[f"{name}.step{t}"]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("t", [980, 480, 0])
@pytest.mark.parametrize("name", DDPM)
def test_ddpm_is_diffusers(recorded, name, t):
    schedule = Schedule.from_config(DDPM[name])
    learned = schedule.variance_type == "learned_range"
    level = row(schedule, t)
    x, p = predicted(recorded, schedule, level, learned)
    np.testing.assert_allclose(p.x0, nhwc(recorded[f"{name}.x0_{t}"]), rtol=1e-5, atol=1e-5)
    noise = nhwc(recorded[f"{name}.noise{t}"]) if t else jnp.ones_like(x)
    stepped = steps.ddpm(p, x, level, noise, learned)
    np.testing.assert_allclose(stepped, nhwc(recorded[f"{name}.step{t}"]), rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("t", [980, 480, 0])
def test_thresholded_ddim_rederives_eps(recorded, t):
    """`clip1` is diffusers with use_clipped_model_output=True: what the original IF code does."""
    schedule = Schedule.from_config(IF | {"sample_max_value": 1.5})
    level = row(schedule, t)
    _, p = predicted(recorded, schedule, level)
    np.testing.assert_allclose(
        steps.ddim(p, level), nhwc(recorded[f"if_ddim.step{t}.clip1"]), rtol=1e-5, atol=2e-5
    )


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_tells_the_same_x0_and_eps(kind):
    rng = np.random.default_rng(0)
    x0, eps = (jnp.asarray(rng.standard_normal((2, 4, 4, 3)), jnp.float32) for _ in range(2))
    abar = jnp.float32(0.6)
    rest = jnp.float32(0.4)
    x_t = jnp.sqrt(abar) * x0 + jnp.sqrt(rest) * eps
    output = {
        "epsilon": eps,
        "sample": x0,
        "v_prediction": jnp.sqrt(abar) * eps - jnp.sqrt(rest) * x0,
    }[kind]
    p = from_output(kind, output, x_t, abar, rest)
    np.testing.assert_allclose(p.x0, x0, atol=2e-6)
    np.testing.assert_allclose(p.eps, eps, atol=2e-6)
    assert p.variance is None


def test_stochastic_ddim_between_its_extremes():
    schedule = Schedule.from_config(SD)
    level = row(schedule, 481)
    rng = np.random.default_rng(1)
    x, e, z = (jnp.asarray(rng.standard_normal((1, 8, 8, 4)), jnp.float32) for _ in range(3))
    p = from_output("epsilon", e, x, level.abar, level.one_minus_abar)
    np.testing.assert_allclose(
        steps.ddim_stochastic(p, level, 0.0, z), steps.ddim(p, level), atol=1e-6
    )
    # eta = 1 has the DDPM posterior's mean and variance
    posterior = steps.ddpm_posterior(p, x, level, learned_range=False)
    sigma = steps.ddim_sigma(level, 1.0)
    assert float(sigma**2) == pytest.approx(float(posterior.variance), rel=1e-5)
    without = steps.ddim_stochastic(p, level, 1.0, jnp.zeros_like(z))
    np.testing.assert_allclose(without, posterior.mean, atol=5e-6)


def test_last_step_adds_no_noise():
    schedule = Schedule.from_config(IF)
    level = row(schedule, 0)
    x0 = jnp.zeros((1, 2, 2, 3))
    p = Prediction(x0, x0, jnp.ones_like(x0))
    a = steps.ddpm(p, x0, level, jnp.ones_like(x0), learned_range=True)
    np.testing.assert_array_equal(a, x0)


def test_dynamic_threshold_clamps_between_one_and_its_bound():
    x = jnp.stack([jnp.full((4, 4, 3), 0.5), jnp.full((4, 4, 3), 1.2), jnp.full((4, 4, 3), 9.0)])
    y = dynamic_threshold(x, 0.95, 1.5)
    np.testing.assert_allclose(y[:, 0, 0, 0], [0.5, 1.0, 1.0], atol=1e-6)
    np.testing.assert_allclose(dynamic_threshold(x, 0.95, 1.0), jnp.clip(x, -1, 1))
