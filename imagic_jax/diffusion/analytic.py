"""A backbone with exact answers: the optimal predictor for Gaussian data N(m_c, s^2 I).

Its probability-flow path is known in closed form, so every sampler, inversion and editor can be
held to an exact value in milliseconds, without weights.
"""

import jax.numpy as jnp

from imagic_jax.diffusion.prediction import Level, Prediction, Sample, column, from_output


def predict(x_t: Sample, abar: Level, one_minus_abar: Level, mean: float, std: float) -> Prediction:
    """E[eps | x_t] for data N(mean, std^2): sqrt(1-a)(x - sqrt(a) m) / (a s^2 + 1 - a)."""
    a, rest = column(abar, x_t), column(one_minus_abar, x_t)
    eps = jnp.sqrt(rest) * (x_t - jnp.sqrt(a) * mean) / (a * std**2 + rest)
    return from_output("epsilon", eps, x_t, abar, one_minus_abar)


def flow(
    x: Sample, mean: float, std: float, abar_from: Level | float, abar_to: Level | float
) -> Sample:
    """Where the probability-flow ODE carries x from one level to another, exactly.

    (x - sqrt(a) m) / sqrt(a s^2 + 1 - a) is constant along the path.
    """
    constant = (x - jnp.sqrt(abar_from) * mean) / jnp.sqrt(abar_from * std**2 + 1.0 - abar_from)
    return jnp.sqrt(abar_to) * mean + constant * jnp.sqrt(abar_to * std**2 + 1.0 - abar_to)
