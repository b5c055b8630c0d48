"""One step of a sampler, as pure functions of a prediction and the levels it goes between.

DDIM: Song et al. 2021, eq. 12. DDPM: Ho et al. 2020, eq. 7; learned range: Nichol & Dhariwal 2021,
eq. 15. SDE-DPM-Solver++(2M): Lu et al. 2022, arXiv:2211.01095, algorithm 2 with the noise of
Brack et al. 2024, arXiv:2311.16711, section 3.1. `level` is the step's row of a `schedule.Grid`.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from imagic_jax.diffusion.prediction import Prediction, Sample
from imagic_jax.diffusion.schedule import Grid

Scalar = Float[Array, ""]


class Posterior(NamedTuple):
    """Mean and variance of q(x_next | x_t, x0)."""

    mean: Sample
    variance: Scalar | Sample


def ddim(p: Prediction, level: Grid) -> Sample:
    """The deterministic step (eta = 0) to the level below."""
    dtype = p.x0.dtype
    return (
        jnp.sqrt(level.abar_next).astype(dtype) * p.x0
        + jnp.sqrt(level.one_minus_abar_next).astype(dtype) * p.eps
    )


def ddim_coefficients(level: Grid) -> tuple[Scalar, Scalar]:
    """The deterministic step as x_next = scale x_t + shift eps: (scale, shift).

    In this form the step is undone exactly by whoever knows eps.
    """
    scale = jnp.sqrt(level.abar_next / level.abar)
    shift = jnp.sqrt(level.one_minus_abar_next) - scale * jnp.sqrt(level.one_minus_abar)
    return scale, shift


def ddim_inverse(x_next: Sample, eps: Sample, level: Grid) -> Sample:
    """The deterministic step backwards: from the level below up to `level`, along `eps`."""
    scale, shift = (c.astype(x_next.dtype) for c in ddim_coefficients(level))
    return (x_next - shift * eps) / scale


def ddim_sigma(level: Grid, eta: Scalar | float) -> Scalar:
    """sigma of the stochastic DDIM step; eta = 1 is the DDPM posterior's standard deviation."""
    ratio = level.one_minus_abar_next / level.one_minus_abar
    return eta * jnp.sqrt(ratio) * jnp.sqrt(_step_beta(level))


def _step_beta(level: Grid) -> Scalar:
    """1 - abar / abar_next, from whichever complement has kept its digits."""
    near = level.one_minus_abar - level.one_minus_abar_next
    far = level.abar_next - level.abar
    return jnp.where(level.abar > 0.5, near, far) / level.abar_next


def ddim_mean(p: Prediction, level: Grid, eta: Scalar | float) -> Sample:
    """Where the step with noise of strength eta in [0, 1] lands before its noise."""
    direction = jnp.sqrt(jnp.maximum(level.one_minus_abar_next - ddim_sigma(level, eta) ** 2, 0.0))
    dtype = p.x0.dtype
    return jnp.sqrt(level.abar_next).astype(dtype) * p.x0 + direction.astype(dtype) * p.eps


def ddim_stochastic(p: Prediction, level: Grid, eta: Scalar | float, noise: Sample) -> Sample:
    """The step with noise of strength eta in [0, 1]."""
    return ddim_mean(p, level, eta) + ddim_sigma(level, eta).astype(p.x0.dtype) * noise


class Guess(NamedTuple):
    """The x0 that the step before saw, and the level that it saw it at."""

    x0: Sample
    level: Grid


def _log_snr(abar: Scalar, one_minus_abar: Scalar) -> Scalar:
    """lambda = log(sqrt(abar) / sqrt(1 - abar)); finite where no noise is left."""
    return 0.5 * (jnp.log(abar) - jnp.log(jnp.maximum(one_minus_abar, 1e-30)))


def dpm_solver(
    p: Prediction, x_t: Sample, level: Grid, last: Guess, usable: Bool[Array, ""]
) -> tuple[Sample, Scalar]:
    """Mean and sigma of a step of the stochastic second-order solver.

    The first step (not `usable`), and one that ends without noise, are of first order.
    """
    dtype = x_t.dtype
    here = _log_snr(level.abar, level.one_minus_abar)
    h = _log_snr(level.abar_next, level.one_minus_abar_next) - here
    before = here - _log_snr(last.level.abar, last.level.one_minus_abar)
    signal, noise = jnp.sqrt(level.abar_next), jnp.sqrt(level.one_minus_abar_next)
    shrink = jnp.exp(-h)
    gain = signal * -jnp.expm1(-2 * h)
    second = usable & (level.one_minus_abar_next > 0)
    slope = jnp.where(second, h / jnp.where(before > 0, before, 1), 0).astype(dtype)
    x0 = p.x0 + 0.5 * slope * (p.x0 - last.x0)
    keep = noise / jnp.sqrt(level.one_minus_abar) * shrink
    return keep.astype(dtype) * x_t + gain.astype(dtype) * x0, noise * jnp.sqrt(-jnp.expm1(-2 * h))


def ddpm_posterior(p: Prediction, x_t: Sample, level: Grid, learned_range: bool) -> Posterior:
    """The DDPM posterior; with `learned_range` the variance is interpolated by `p.variance`."""
    dtype = x_t.dtype
    abar, rest = level.abar, level.one_minus_abar
    abar_next, rest_next = level.abar_next, level.one_minus_abar_next
    step_alpha = abar / abar_next
    step_beta = _step_beta(level)
    from_x0 = (jnp.sqrt(abar_next) * step_beta / rest).astype(dtype)
    from_xt = (jnp.sqrt(step_alpha) * rest_next / rest).astype(dtype)
    small = jnp.maximum(rest_next / rest * step_beta, 1e-20)
    variance = small
    if learned_range:
        if p.variance is None:
            raise ValueError("the variance is said to be learned, but the model predicts none")
        share = (p.variance + 1.0) / 2.0
        log_small, log_large = jnp.log(small).astype(dtype), jnp.log(step_beta).astype(dtype)
        variance = jnp.exp(share * log_large + (1.0 - share) * log_small)
    return Posterior(from_x0 * p.x0 + from_xt * x_t, variance)


def ddpm(p: Prediction, x_t: Sample, level: Grid, noise: Sample, learned_range: bool) -> Sample:
    """One ancestral step; no noise is added on the step from t = 0."""
    posterior = ddpm_posterior(p, x_t, level, learned_range)
    sigma = jnp.where(level.t > 0, jnp.sqrt(posterior.variance), 0.0).astype(x_t.dtype)
    return posterior.mean + sigma * noise
