"""Inversions on the Gaussian world: closed forms, exact reconstructions, statistics of noise."""

import functools
import itertools

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones.contracts import Cond, Extra
from imagic_jax.backbones.generate import denoiser
from imagic_jax.diffusion import inversion, steps
from imagic_jax.diffusion.analytic import flow
from imagic_jax.diffusion.schedule import Schedule, grid

X0 = jax.random.uniform(jax.random.key(1), (1, 4, 4, 3), minval=-1.0)
BENT = analytic.GaussianStage(bend=0.1)
SD = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
SCHEDULES = {
    "latent": BENT.schedule,
    "clipped, one more level": Schedule(**SD, steps_offset=1, set_alpha_to_one=False),
    "thresholded": Schedule(
        **SD, steps_offset=1, set_alpha_to_one=False, thresholding=True, sample_max_value=1.5
    ),
}


def told(stage, text=0.3, null=0.0, scale=3.5):
    """A guided denoiser for one picture."""
    cond, null = (Cond(jnp.full((1, 2, 3), mean)) for mean in (text, null))
    return denoiser(stage, {}, cond, null, Extra(), jnp.float32(scale))


def there_and_back(stage, n, convention="destination", scale=None):
    """DDIM inversion, and the sampler back to the picture."""
    cond, null = analytic.cond(0.3), analytic.cond(0.0)
    plain = denoiser(stage, {}, cond, None, Extra(), jnp.float32(1.0))
    levels = grid(stage.schedule, n)
    asked = jnp.asarray(inversion.asked_timesteps(levels, convention))
    found = inversion.ddim_invert(plain, X0, levels, asked)
    down = plain if scale is None else denoiser(stage, {}, cond, null, Extra(), jnp.float32(scale))
    first = jnp.int32(0)
    down = inversion.remembering(down)
    back = inversion.replay(down, stage.schedule, found.latents[0], levels, first)
    return found, back


@functools.partial(jax.jit, static_argnames=("stage", "scale"))
def walk(stage, found, levels, first, inverting, text=0.3, scale=3.5):
    """One step after the other with noise maps, or to find them."""
    denoise = inversion.remembering(told(stage, text, scale=scale))
    return inversion.ddpm_walk(denoise, stage.schedule, found, levels, first, inverting)


def inverted(stage, levels, x0=X0, seed=0, second_order=False, **told):
    start = inversion.noised(x0, levels, jax.random.key(seed), second_order)
    return walk(stage, start, levels, jnp.int32(0), jnp.bool(True), **told)


def again(stage, found, levels, skip, **told):
    return walk(stage, found, levels, jnp.int32(skip), jnp.bool(False), **told).latents[-1]


def rms(a):
    return float(jnp.sqrt(jnp.mean(jnp.square(a))))


def test_the_way_up_is_the_flow_to_first_order():
    stage = analytic.GaussianStage()
    errors = []
    for n in (50, 100, 250, 500):
        found, _ = there_and_back(stage, n)
        top = grid(stage.schedule, n).abar[0]
        exact = flow(X0, 0.3, stage.std, stage.schedule.final_alpha_cumprod(), top)
        errors.append(rms(found.latents[0] - exact))
    assert errors[0] < 0.1
    rates = np.array(errors[:-1]) / np.array(errors[1:])
    np.testing.assert_allclose(rates, [2, 2.5, 2], rtol=0.15)


def test_a_round_trip_closes_like_one_over_n_and_guidance_opens_it():
    error = {
        (convention, n): rms(there_and_back(BENT, n, convention)[1] - X0)
        for convention in ("destination", "origin")
        for n in (50, 200)
    }
    for convention in ("destination", "origin"):
        assert error[convention, 200] < 0.4 * error[convention, 50] < 0.05
    assert error["destination", 50] < error["origin", 50]
    assert rms(there_and_back(BENT, 50, scale=7.5)[1] - X0) > 3 * error["destination", 50]


def test_the_origin_asks_one_level_below():
    levels = grid(BENT.schedule, 4)
    assert inversion.asked_timesteps(levels, "destination").tolist() == [751, 501, 251, 1]
    assert inversion.asked_timesteps(levels, "origin").tolist() == [501, 251, 1, 0]


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("name", SCHEDULES)
def test_noise_maps_give_the_picture_back_from_every_step(name, second_order):
    stage = analytic.GaussianStage(SCHEDULES[name], bend=0.1)
    levels = grid(stage.schedule, 100)
    sigma = steps.ddim_sigma(inversion.row(levels, 99), 1.0)
    np.testing.assert_allclose(sigma, 0.020648, rtol=1e-4)
    found = inverted(stage, levels, second_order=second_order)
    for skip in range(101):
        np.testing.assert_allclose(again(stage, found, levels, skip), X0, atol=1e-6, rtol=0)
        np.testing.assert_array_equal(again(stage, found, levels, skip), found.latents[-1])


def test_more_steps_left_out_stay_closer_to_the_picture():
    levels = grid(BENT.schedule, 50)
    found = inverted(BENT, levels)
    away = [rms(again(BENT, found, levels, skip, text=0.9) - X0) for skip in range(0, 51, 10)]
    assert np.all(np.diff(away) < 0)
    assert away[0] > 0.1


def test_the_first_step_of_the_solver_is_the_samplers():
    for schedule in (BENT.schedule, Schedule(beta_schedule="squaredcos_cap_v2")):
        levels = grid(schedule, 10)
        for i in (0, 5, 9):
            level = inversion.row(levels, i)
            p = told(analytic.GaussianStage(schedule))(X0, level.t)
            last = steps.Guess(p.x0 + 1, inversion.row(levels, max(i - 1, 0)))
            mean, sigma = steps.dpm_solver(p, X0, level, last, jnp.bool(False))
            np.testing.assert_allclose(mean, steps.ddim_mean(p, level, 1.0), atol=2e-6)
            np.testing.assert_allclose(sigma, steps.ddim_sigma(level, 1.0), rtol=1e-4, atol=1e-6)
            if i:  # of second order: half the slope from the guess before, over this step
                second, _ = steps.dpm_solver(p, X0, level, last, jnp.bool(True))
                ends = level.one_minus_abar_next == 0
                moved = np.asarray(second - mean)
                assert np.all(moved == 0) if ends else np.all(moved < -1e-3)


@pytest.mark.parametrize("second_order", [False, True])
@pytest.mark.parametrize("clipped", [False, True])
def test_where_the_last_step_has_no_noise_the_last_guess_remains(clipped, second_order):
    schedule = Schedule(beta_schedule="squaredcos_cap_v2", clip_sample=clipped)
    stage = analytic.GaussianStage(schedule)
    levels = grid(schedule, 50)
    found = inverted(stage, levels, second_order=second_order)
    assert np.all(found.noises[-1] == 0)
    assert np.isfinite(found.latents).all()
    guess = told(stage)(found.latents[-2], levels.t[-1]).x0
    guess = jnp.clip(guess, -1, 1) if clipped else guess
    np.testing.assert_allclose(found.latents[-1], guess, atol=1e-6)
    assert 1e-3 < rms(found.latents[-1] - X0) < 2 * float(jnp.sqrt(levels.one_minus_abar[-1]))
    for skip in (0, 18, 49, 50):
        np.testing.assert_array_equal(again(stage, found, levels, skip), found.latents[-1])


def clean_to_noisy(denoise, x0, levels, key):
    """The order that a first implementation had: the written-back landing is never visited."""
    path, noises, *_ = inversion.noised(x0, levels, key)
    for i in reversed(range(len(levels.t))):
        level = inversion.row(levels, i)
        mean = steps.ddim_mean(denoise(path[i], level.t), level, 1.0)
        sigma = steps.ddim_sigma(level, 1.0).astype(x0.dtype)
        noises = noises.at[i].set(inversion.noise_map(path[i + 1], mean, sigma))
    return inversion.Inversion(path, noises)


def test_the_order_matters_in_half_precision():
    stage, levels = analytic.GaussianStage(), grid(BENT.schedule, 100)
    half = X0.astype(jnp.float16)
    found = {
        "ours": inverted(stage, levels, half),
        "clean to noisy": clean_to_noisy(told(stage), half, levels, jax.random.key(0)),
    }
    error = {k: rms(again(stage, f, levels, 0) - half) for k, f in found.items()}
    assert error["ours"] < 1e-3 < error["clean to noisy"]


def test_noise_maps_are_wide_and_neighbours_are_opposed():
    stage, levels = analytic.GaussianStage(), grid(BENT.schedule, 100)
    x0 = 0.5 * jax.random.normal(jax.random.key(2), (1, 32, 32, 3))
    one, other = (inverted(stage, levels, x0, seed, text=0.0).noises for seed in (0, 1))
    maps = np.asarray(one).reshape(100, -1)
    assert np.all(maps[:-5].std(axis=1) > 1.5)  # a Markov chain would have 1
    neighbours = [np.corrcoef(a, b)[0, 1] for a, b in itertools.pairwise(maps[:-5])]
    assert -0.6 < np.mean(neighbours) < -0.4  # and 0
    assert abs(np.corrcoef(maps[10], np.asarray(other[10]).ravel())[0, 1]) < 0.05
