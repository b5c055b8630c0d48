"""The sampling loop, guidance and the loss, on the analytic Gaussian backbone."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.diffusion import analytic
from imagic_jax.diffusion.guidance import guide
from imagic_jax.diffusion.loss import denoising_loss
from imagic_jax.diffusion.prediction import Prediction
from imagic_jax.diffusion.sampling import sample
from imagic_jax.diffusion.schedule import Schedule, grid, padded_grid

MEAN, STD = 0.3, 0.5
FREE = {"clip_sample": False}
SCHEDULES = {
    "sd": Schedule(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, steps_offset=1, **FREE
    ),
    "if": Schedule(beta_schedule="squaredcos_cap_v2", timestep_spacing="trailing", **FREE),
}


def denoiser(schedule, mean=MEAN, std=STD):
    def denoise(x, t):
        return analytic.predict(x, schedule.abar(t), schedule.one_minus_abar(t), mean, std)

    return denoise


def run(schedule, x, num_steps, sampler="ddim", key=0, **kwargs):
    levels, count = padded_grid(schedule, num_steps)
    keys = jax.random.split(jax.random.key(key), x.shape[0])
    return sample(denoiser(schedule, **kwargs), schedule, x, levels, count, keys, sampler)


@pytest.mark.parametrize("name", SCHEDULES)
def test_ddim_converges_to_the_probability_flow(name):
    """First order: halving the step halves the distance to the exact flow."""
    schedule = SCHEDULES[name]
    x = jax.random.normal(jax.random.key(0), (4, 4, 4, 3))
    errors = []
    for num_steps in (50, 100, 200, 500):
        start = grid(schedule, num_steps).abar[0]
        end = jnp.float32(schedule.final_alpha_cumprod())
        exact = analytic.flow(x, MEAN, STD, start, end)
        errors.append(float(jnp.abs(run(schedule, x, num_steps) - exact).max()))
    assert errors[-1] < 1.5e-2
    for coarse, fine in itertools.pairwise(errors):
        assert fine < 0.62 * coarse


def test_flow_is_constant_where_nothing_is_to_do():
    """Data N(0, 1) is white noise at every level: DDIM must return its input."""
    schedule = SCHEDULES["if"]
    x = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))
    drawn = run(schedule, x, 25, mean=0.0, std=1.0)
    assert float(jnp.abs(drawn - x).max()) < 0.35  # Euler over 25 steps
    finer = run(schedule, x, 500, mean=0.0, std=1.0)
    assert float(jnp.abs(finer - x).max()) < 0.03


def test_ddpm_samples_have_the_data_moments():
    schedule = SCHEDULES["if"]
    x = jax.random.normal(jax.random.key(2), (64, 8, 8, 3))
    drawn = run(schedule, x, 250, "ddpm")
    assert float(drawn.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(drawn.std()) == pytest.approx(STD, abs=0.02)


def test_ddpm_noise_belongs_to_the_picture_not_to_the_batch():
    schedule = SCHEDULES["sd"]
    x = jax.random.normal(jax.random.key(3), (4, 4, 4, 3))
    levels, count = padded_grid(schedule, 10)
    keys = jax.random.split(jax.random.key(9), 4)
    together = sample(denoiser(schedule), schedule, x, levels, count, keys, "ddpm")
    alone = sample(denoiser(schedule), schedule, x[2:3], levels, count, keys[2:3], "ddpm")
    np.testing.assert_allclose(together[2:3], alone, atol=1e-5)


def test_number_of_steps_is_traced():
    schedule = SCHEDULES["sd"]
    x = jnp.ones((1, 2, 2, 3))
    keys = jax.random.split(jax.random.key(0), 1)
    compiled = jax.jit(lambda levels, n: sample(denoiser(schedule), schedule, x, levels, n, keys))
    for num_steps in (5, 9, 40):
        levels, count = padded_grid(schedule, num_steps)
        np.testing.assert_allclose(compiled(levels, count), run(schedule, x, num_steps), atol=1e-6)
    assert compiled._cache_size() == 1


def test_guidance_identities():
    rng = np.random.default_rng(0)
    u, c = (
        Prediction(*(jnp.asarray(rng.standard_normal((2, 3, 3, 3)), jnp.float32) for _ in range(2)))
        for _ in range(2)
    )
    np.testing.assert_allclose(guide(u, c, 0.0).eps, u.eps)
    np.testing.assert_allclose(guide(u, c, 1.0).eps, c.eps, atol=1e-6)
    np.testing.assert_allclose(guide(u, c, 3.0).x0, u.x0 + 3 * (c.x0 - u.x0), atol=1e-6)
    per_picture = guide(u, c, jnp.array([0.0, 1.0]))
    np.testing.assert_allclose(per_picture.eps[0], u.eps[0])
    np.testing.assert_allclose(per_picture.eps[1], c.eps[1], atol=1e-6)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_loss_of_the_optimal_predictor_is_the_posterior_variance(kind):
    """E|x0 - E[x0|x_t]|^2 = s^2 (1-a) / (a s^2 + 1 - a), and its images under eps and v."""
    schedule = Schedule(beta_schedule="squaredcos_cap_v2", prediction_type=kind)
    a = schedule.alphas_cumprod()
    posterior = STD**2 * (1 - a) / (a * STD**2 + 1 - a)
    scale = {"sample": 1.0, "epsilon": a / (1 - a), "v_prediction": 1.0 / (1 - a)}[kind]
    expected = (scale * posterior).mean()

    def network(x, t):
        p = analytic.predict(x, schedule.abar(t), schedule.one_minus_abar(t), MEAN, STD)
        level = (slice(None), None, None, None)
        abar, rest = schedule.abar(t)[level], schedule.one_minus_abar(t)[level]
        v = jnp.sqrt(abar) * p.eps - jnp.sqrt(rest) * p.x0
        return {"sample": p.x0, "epsilon": p.eps, "v_prediction": v}[kind]

    x0 = MEAN + STD * jax.random.normal(jax.random.key(0), (4096, 4, 4, 3))
    loss = float(denoising_loss(network, schedule, x0, jax.random.key(1)))
    assert loss == pytest.approx(expected, rel=0.05)


def test_loss_weight_is_v_weighting_cut_off():
    free = Schedule(beta_schedule="squaredcos_cap_v2", prediction_type="sample")
    cut = Schedule(beta_schedule="squaredcos_cap_v2", prediction_type="sample", max_loss_weight=5.0)
    t = jnp.arange(1000)
    assert free.loss_weight(t) is None
    snr = cut.alphas_cumprod() / (1 - cut.alphas_cumprod())
    np.testing.assert_allclose(cut.loss_weight(t), np.minimum(snr + 1, 5.0), rtol=1e-5)


def test_cut_off_weights_of_v_and_x0_are_one_loss():
    x0 = jax.random.normal(jax.random.key(0), (8, 4, 4, 3))

    def loss_of(kind):
        schedule = Schedule(prediction_type=kind, max_loss_weight=5.0)

        def network(x, t):  # the same prediction of x0, said as x0 and as v
            abar = schedule.abar(t)[:, None, None, None]
            guess = 0.3 * x
            v = (jnp.sqrt(abar) * x - guess) / jnp.sqrt(1.0 - abar)
            return guess if kind == "sample" else v

        return float(denoising_loss(network, schedule, x0, jax.random.key(1)))

    assert loss_of("v_prediction") == pytest.approx(loss_of("sample"), rel=1e-3)


def test_loss_ignores_the_variance_half():
    schedule = Schedule(beta_schedule="squaredcos_cap_v2")
    x0 = jax.random.normal(jax.random.key(0), (4, 4, 4, 3))

    def plain(x, t):
        return 0.5 * x

    def with_variance(x, t):
        return jnp.concatenate([0.5 * x, 7.0 * x], axis=-1)

    key = jax.random.key(3)
    assert float(denoising_loss(plain, schedule, x0, key)) == pytest.approx(
        float(denoising_loss(with_variance, schedule, x0, key))
    )
