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
    schedule: Schedule,
    key: PRNGKeyArray,
    shape: tuple[int, ...],
    dtype=jnp.float32,
    above: float | Float[Array, ""] = 0.0,
) -> tuple[Int[Array, "b"], Sample]:
    """t ~ U{0..T-1}, evenly spaced, and eps ~ N(0, I) for a batch of the given shape.

    `above`, in [0, 1), leaves out that share of the timesteps, those of little noise.
    """
    t_key, eps_key = jax.random.split(key)
    count, steps = shape[0], schedule.num_train_timesteps
    start = jax.random.uniform(t_key, (), jnp.float32)
    spaced = (start + jnp.arange(count, dtype=jnp.float32) / count) % 1.0
    spaced = above + (1.0 - above) * spaced
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
    output = network(add_noise(schedule, x0, eps, t), t)
    return _squared(schedule, output, target(schedule, x0, eps, t), t)


def matching_loss(
    network: Network,
    teacher: Network,
    schedule: Schedule,
    x0: Sample,
    key: PRNGKeyArray,
    above: float | Float[Array, ""] = 0.0,
) -> Float[Array, ""]:
    """`denoising_loss` with another network's answers in place of the target; `above` as in `draw`.

    Unlike the target they do not vary with the noise beyond what x_t tells, so a network that is
    still its own teacher has a loss and a gradient of exactly 0 (Li & Hoiem 2016, "Learning without
    Forgetting"). No gradient flows into the teacher.
    """
    t, eps = draw(schedule, key, x0.shape, x0.dtype, above)
    x_t = add_noise(schedule, x0, eps, t)
    answer = jax.lax.stop_gradient(teacher(x_t, t))[..., : x0.shape[-1]]
    return _squared(schedule, network(x_t, t), answer, t)


def _squared(
    schedule: Schedule, output: Array, wanted: Sample, t: Int[Array, "b"]
) -> Float[Array, ""]:
    """Mean squared error over a batch, weighted by noise level."""
    error = output[..., : wanted.shape[-1]].astype(jnp.float32) - wanted.astype(jnp.float32)
    each = jnp.mean(jnp.square(error), axis=tuple(range(1, error.ndim)))
    weight = schedule.loss_weight(t)
    return jnp.mean(each if weight is None else weight * each)
