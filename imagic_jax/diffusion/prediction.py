"""What a network predicts, resolved once: a `Prediction` answers x0 and eps alike.

Samplers, losses and editors never ask whether a network was trained on eps, v or x0
(v: Salimans & Ho 2022, v = sqrt(abar) eps - sqrt(1 - abar) x0).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagic_jax.diffusion.schedule import PredictionType, Schedule

Sample = Float[Array, "b *dims c"]
Level = Float[Array, "*b"]

#: Below this abar, dividing by sqrt(abar) would blow float32 noise up beyond use.
_TINY = 1e-12


class Prediction(NamedTuple):
    """A network's answer at x_t, in both readings, consistent with each other at x_t.

    `variance` is the raw learned-range output nu in about [-1, 1], or None.
    """

    x0: Sample
    eps: Sample
    variance: Sample | None = None


def column(level: Level, like: Sample) -> Array:
    """A level per picture (or one for all), shaped to broadcast over a batch."""
    level = jnp.asarray(level, like.dtype)
    return level.reshape(level.shape + (1,) * (like.ndim - level.ndim)) if level.ndim else level


def from_output(
    kind: PredictionType,
    output: Float[Array, "b *dims o"],
    x_t: Sample,
    abar: Level,
    one_minus_abar: Level,
) -> Prediction:
    """Turns a network output into a `Prediction`.

    Args:
        kind: what the network was trained to predict.
        output: (b, ..., c), or (b, ..., 2c) where the variance is learned (second half).
        x_t: (b, ..., c), the network's input.
        abar, one_minus_abar: the level of x_t, () or (b,).
    """
    variance = None
    if output.shape[-1] == 2 * x_t.shape[-1]:
        output, variance = jnp.split(output, 2, axis=-1)
    a, s = jnp.sqrt(column(abar, x_t)), jnp.sqrt(column(one_minus_abar, x_t))
    if kind == "epsilon":
        return Prediction((x_t - s * output) / jnp.maximum(a, _TINY), output, variance)
    if kind == "v_prediction":
        return Prediction(a * x_t - s * output, a * output + s * x_t, variance)
    return Prediction(output, eps_from_x0(output, x_t, abar, one_minus_abar), variance)


def eps_from_x0(x0: Sample, x_t: Sample, abar: Level, one_minus_abar: Level) -> Sample:
    """The noise that makes x_t out of x0."""
    a, s = jnp.sqrt(column(abar, x_t)), jnp.sqrt(column(one_minus_abar, x_t))
    return (x_t - a * x0) / jnp.maximum(s, _TINY)


def with_x0(p: Prediction, x0: Sample, x_t: Sample, abar: Level, one_minus_abar: Level):
    """`p` with another x0 and the eps that is consistent with it (as the original IF code does)."""
    return Prediction(x0, eps_from_x0(x0, x_t, abar, one_minus_abar), p.variance)


def with_eps_moved(p: Prediction, shift: Sample, abar: Level, one_minus_abar: Level) -> Prediction:
    """`p` with `shift` added to its eps, and the x0 that follows from it."""
    ratio = jnp.sqrt(column(one_minus_abar, shift) / jnp.maximum(column(abar, shift), _TINY))
    return Prediction(p.x0 - ratio * shift, p.eps + shift, p.variance)


def target(schedule: Schedule, x0: Sample, eps: Sample, t) -> Sample:
    """What the network should have answered at x_t: eps, v or x0, as its folder records."""
    if schedule.prediction_type == "epsilon":
        return eps
    if schedule.prediction_type == "sample":
        return x0
    a = jnp.sqrt(column(schedule.abar(t), x0))
    s = jnp.sqrt(column(schedule.one_minus_abar(t), x0))
    return a * eps - s * x0
