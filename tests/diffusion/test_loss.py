"""The training loss: timesteps that cover the levels, and a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.diffusion import loss
from imagic_jax.diffusion.schedule import Schedule

SCHEDULE = Schedule.from_config({"beta_schedule": "squaredcos_cap_v2", "prediction_type": "sample"})


def test_timesteps_of_a_batch_cover_all_levels():
    t, _ = loss.draw(SCHEDULE, jax.random.key(0), (8, 2, 2, 1))
    assert sorted((np.asarray(t) // 125).tolist()) == list(range(8))


def test_each_timestep_is_uniform():
    keys = jax.random.split(jax.random.key(1), 4000)
    t, _ = jax.vmap(lambda k: loss.draw(SCHEDULE, k, (3, 1, 1, 1)))(keys)
    for column in np.asarray(t).T:
        counts = np.histogram(column, bins=10, range=(0, 1000))[0]
        assert np.square(counts - 400).sum() / 400 < 27.9  # chi-squared, 9 degrees, p = 0.001
        assert column.min() >= 0
        assert column.max() <= 999


def test_timesteps_of_little_noise_can_be_left_out():
    key, shape = jax.random.key(0), (8, 2, 2, 1)
    t, eps = loss.draw(SCHEDULE, key, shape, above=0.6)
    assert sorted((np.asarray(t) // 50).tolist()) == list(range(12, 20))
    everything = loss.draw(SCHEDULE, key, shape)
    np.testing.assert_array_equal(loss.draw(SCHEDULE, key, shape, above=0.0)[0], everything[0])
    np.testing.assert_array_equal(eps, everything[1])


def test_a_network_that_answers_zero_pays_the_picture():
    x0 = jnp.full((64, 4, 4, 1), 0.5)
    paid = loss.denoising_loss(lambda x, t: jnp.zeros_like(x), SCHEDULE, x0, jax.random.key(2))
    assert float(paid) == pytest.approx(0.25, rel=1e-6)


def test_a_network_that_is_still_its_teacher_pays_nothing_and_moves_nowhere():
    x0 = jax.random.normal(jax.random.key(3), (4, 2, 2, 3))

    def paid(w, taught_by):
        def network(w):
            return lambda x, t: w * x + t[:, None, None, None] / 1000

        key = jax.random.key(4)
        return loss.matching_loss(network(w), network(taught_by), SCHEDULE, x0, key)

    value, slope = jax.value_and_grad(paid)(jnp.float32(0.7), jnp.float32(0.7))
    assert float(value) == float(slope) == 0.0
    t, eps = loss.draw(SCHEDULE, jax.random.key(4), x0.shape)
    x_t = loss.add_noise(SCHEDULE, x0, eps, t)
    off = paid(jnp.float32(0.9), jnp.float32(0.7))
    np.testing.assert_allclose(off, jnp.mean(jnp.square(0.2 * x_t)), rtol=1e-5)
    assert float(jax.grad(paid, 1)(jnp.float32(0.9), jnp.float32(0.7))) == 0.0
