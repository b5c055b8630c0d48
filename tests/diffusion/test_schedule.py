"""Schedules against landmarks, definitions and recorded diffusers tables."""

import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.diffusion.schedule import (
    Schedule,
    UnsupportedSchedule,
    add_noise,
    grid,
    timesteps,
)

SD = Schedule.from_config(
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "clip_sample": False,
    }
)
IF = Schedule.from_config({"beta_schedule": "squaredcos_cap_v2"})
X4 = Schedule.from_config({"beta_schedule": "scaled_linear"})


@pytest.mark.parametrize(
    ("schedule", "t", "expected"),
    [
        (SD, 0, 0.99915),
        (SD, 999, 0.00466),
        (SD, 981, 0.005776),
        (X4, 20, 0.99730),
        (X4, 350, 0.64048),
        (IF, 0, 0.999959),
        (IF, 250, 0.84589),
        (IF, 500, 0.49229),
        (IF, 998, 2.4e-6),
    ],
)
def test_alphas_cumprod_landmarks(schedule, t, expected):
    assert schedule.alphas_cumprod()[t] == pytest.approx(expected, rel=2e-2 if t == 998 else 1e-3)


@pytest.mark.parametrize(
    ("name", "config"),
    [
        (
            "scheduler_sd1_ddim",
            {
                "beta_schedule": "scaled_linear",
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "steps_offset": 1,
            },
        ),
        (
            "scheduler_sd21_ddim_v",
            {
                "beta_schedule": "scaled_linear",
                "beta_start": 0.00085,
                "beta_end": 0.012,
                "steps_offset": 1,
            },
        ),
        ("scheduler_x4_ddim_v", {"beta_schedule": "scaled_linear", "steps_offset": 1}),
        ("scheduler_if_i_ddpm", {"beta_schedule": "squaredcos_cap_v2"}),
        ("scheduler_x4_low_res_ddpm", {"beta_schedule": "scaled_linear"}),
    ],
)
def test_tables_are_diffusers(recorded, name, config):
    schedule = Schedule.from_config(config)
    np.testing.assert_allclose(
        schedule.alphas_cumprod(), recorded[f"{name}.acp"], rtol=0, atol=2e-6
    )
    np.testing.assert_array_equal(timesteps(schedule, 50), recorded[f"{name}.t50"])


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("count", [1, 7, 50, 1000])
def test_timesteps_fall_and_stay_inside(spacing, count):
    t = timesteps(Schedule(timestep_spacing=spacing), count)
    assert len(t) == count
    assert (np.diff(t) < 0).all()
    assert t.min() >= 0
    assert t.max() <= 999


@pytest.mark.parametrize("count", [0, -3, 1001])
def test_impossible_step_counts_are_refused(count):
    with pytest.raises(ValueError, match="between 1 and 1000"):
        timesteps(SD, count)


def test_grid_lands_where_the_next_step_starts():
    for schedule in (SD, IF):
        rows = grid(schedule, 20)
        np.testing.assert_allclose(rows.abar_next[:-1], rows.abar[1:], rtol=1e-6)
        assert float(rows.abar_next[-1]) == pytest.approx(schedule.final_alpha_cumprod(), rel=1e-6)


def test_complements_survive_where_float32_cancels():
    rows = grid(Schedule(beta_schedule="squaredcos_cap_v2", timestep_spacing="linspace"), 10)
    exact = IF.alphas_cumprod()[np.asarray(rows.t)]
    np.testing.assert_allclose(rows.one_minus_abar, 1.0 - exact, rtol=1e-6)
    np.testing.assert_allclose(rows.abar, exact, rtol=1e-6)


def test_config_round_trip():
    schedule = Schedule(
        prediction_type="sample", max_loss_weight=5.0, beta_schedule="squaredcos_cap_v2"
    )
    assert Schedule.from_config(schedule.to_config()) == schedule


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ({"beta_schedule": "sigmoid"}, "beta_schedule"),
        ({"prediction_type": "flow"}, "prediction_type"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"max_loss_weight": 5.0}, "max_loss_weight"),
    ],
)
def test_unsupported_configs_are_refused_by_name(config, named):
    with pytest.raises(UnsupportedSchedule, match=named):
        Schedule.from_config(config)


def test_add_noise_keeps_unit_variance():
    rng = np.random.default_rng(0)
    x0, eps = (jnp.asarray(rng.standard_normal((4, 16, 16, 3)), jnp.float32) for _ in range(2))
    t = jnp.array([0, 250, 500, 999])
    noised = add_noise(IF, x0, eps, t)
    np.testing.assert_allclose(noised[3], eps[3], atol=3e-4)
    np.testing.assert_allclose(noised[0], x0[0], atol=5e-2)
    assert float(noised[2].std()) == pytest.approx(1.0, abs=0.05)
