"""The training loss: the model's own target at uniformly drawn timesteps (Ho et al. 2020, 14).

The timesteps of a batch are evenly spaced from one random start (Kingma et al. 2021, Variational
Diffusion Models, I.1): each is uniform, and a small batch covers all noise levels.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.diffusion.prediction import Sample, target
from imagic_jax.diffusion.schedule import Schedule, add_noise

#: (x_t, t) -> raw network output.
Network = Callable[[Sample, Int[Array, "b"]], Array]


def draw(
    schedule: Schedule, key: PRNGKeyArray, shape: tuple[int, ...], dtype=jnp.float32
) -> tuple[Int[Array, "b"], Sample]:
    """t ~ U{0..T-1}, evenly spaced, and eps ~ N(0, I) for a batch of the given shape."""
    t_key, eps_key = jax.random.split(key)
    count, steps = shape[0], schedule.num_train_timesteps
    start = jax.random.uniform(t_key, (), jnp.float32)
    spaced = (start + jnp.arange(count, dtype=jnp.float32) / count) % 1.0
    t = jnp.minimum((spaced * steps).astype(jnp.int32), steps - 1)
    return t, jax.random.normal(eps_key, shape, dtype)


def denoising_loss(
    network: Network, schedule: Schedule, x0: Sample, key: PRNGKeyArray
) -> Float[Array, ""]:
    """Mean squared error against the recorded target, over one (t, eps) draw per picture,
    weighted as the schedule records.

    The learned-variance half of the output, where there is one, is ignored (the "simple" loss).
    """
    t, eps = draw(schedule, key, x0.shape, x0.dtype)
    output = network(add_noise(schedule, x0, eps, t), t)[..., : x0.shape[-1]]
    error = output.astype(jnp.float32) - target(schedule, x0, eps, t).astype(jnp.float32)
    each = jnp.mean(jnp.square(error), axis=tuple(range(1, error.ndim)))
    weight = schedule.loss_weight(t)
    return jnp.mean(each if weight is None else weight * each)
