"""Keeping x0 inside the range of pictures: static clipping and dynamic thresholding.

Dynamic thresholding: Saharia et al. 2022 (Imagen), section 2.3.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from imagic_jax.diffusion.prediction import Level, Prediction, Sample, with_x0
from imagic_jax.diffusion.schedule import Schedule


def dynamic_threshold(
    x0: Float[Array, "b *dims"], ratio: float, max_value: float
) -> Float[Array, "b *dims"]:
    """x0 clipped to +-s and divided by s; s = the `ratio` quantile of |x0| per picture.

    s is clamped to [1, max_value], so max_value = 1 is plain clipping to [-1, 1].
    """
    flat = jnp.abs(x0.reshape(x0.shape[0], -1)).astype(jnp.float32)
    s = jnp.clip(jnp.quantile(flat, ratio, axis=1), 1.0, max_value)
    s = s.reshape((-1,) + (1,) * (x0.ndim - 1)).astype(x0.dtype)
    return jnp.clip(x0, -s, s) / s


def limits_x0(schedule: Schedule) -> bool:
    """Whether this schedule's samplers limit x0 at all."""
    return schedule.thresholding or schedule.clip_sample


def limit(schedule: Schedule, x0: Float[Array, "b *dims"]) -> Float[Array, "b *dims"]:
    """What the schedule's folder asks for: thresholding, else clipping, else nothing."""
    if schedule.thresholding and schedule.sample_max_value > 1.0:
        return dynamic_threshold(x0, schedule.dynamic_thresholding_ratio, schedule.sample_max_value)
    if schedule.thresholding:
        return jnp.clip(x0, -1.0, 1.0)
    if schedule.clip_sample:
        return jnp.clip(x0, -schedule.clip_sample_range, schedule.clip_sample_range)
    return x0


def limited(
    schedule: Schedule, p: Prediction, x_t: Sample, abar: Level, one_minus_abar: Level
) -> Prediction:
    """`p` with its x0 limited, and the eps that is consistent with it."""
    if not limits_x0(schedule):
        return p
    return with_x0(p, limit(schedule, p.x0), x_t, abar, one_minus_abar)
