"""The one sampling loop: start from noise, walk down a grid, return x0.

The sampler is static, the number of steps is traced: grids are padded to the schedule's length,
so that another `--steps` compiles nothing.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key

from imagic_jax.diffusion import steps
from imagic_jax.diffusion.prediction import Prediction, Sample
from imagic_jax.diffusion.schedule import Grid, Schedule
from imagic_jax.diffusion.thresholding import limited

Sampler = Literal["ddim", "ddpm"]
#: (x_t, t) -> Prediction; guidance and conditioning are inside.
Denoiser = Callable[[Sample, Array], Prediction]
#: (x after a step, the step's index) -> what the next step starts from.
After = Callable[[Sample, Array], Sample]


def sample(
    denoise: Denoiser,
    schedule: Schedule,
    x_start: Sample,
    levels: Grid,
    num_steps: Array,
    keys: Key[Array, " b"],
    sampler: Sampler = "ddim",
    after: After | None = None,
) -> Sample:
    """Walks from x_start (at the first level's noise) down to x0. Traceable; jit it outside.

    Args:
        denoise: the guided prediction at (x_t, t); x0 is limited here, after guidance.
        schedule: says how x0 is limited and whether the variance is learned.
        x_start: (b, ...) noise.
        levels: `padded_grid`'s rows.
        num_steps: how many of them are real.
        keys: (b,) one key per picture for the stochastic sampler, folded with the step's index;
            a picture's noise does not depend on what else is in the batch.
        sampler: "ddim" (deterministic) or "ddpm".
        after: changes x after every step (an editor's blending).
    """

    def body(i, x):
        level = jax.tree.map(lambda a: a[i], levels)
        p = denoise(x, level.t)
        p = limited(schedule, p, x, level.abar, level.one_minus_abar)
        x = step(schedule, p, x, level, keys, i, sampler)
        return x if after is None else after(x, i)

    return jax.lax.fori_loop(0, num_steps, body, x_start)


def step(
    schedule: Schedule,
    p: Prediction,
    x: Sample,
    level: Grid,
    keys: Key[Array, " b"],
    index: Int[Array, ""] | int,
    sampler: Sampler,
) -> Sample:
    """Step number `index` of `sample`, from x at `level` to the level below."""
    if sampler == "ddim":
        return steps.ddim(p, level)
    learned = schedule.variance_type == "learned_range"
    return steps.ddpm(p, x, level, normal(keys, index, x.shape[1:], x.dtype), learned)


def normal(
    keys: Key[Array, " b"], index: Int[Array, ""] | int, shape: tuple[int, ...], dtype=jnp.float32
) -> Sample:
    """Normal noise number `index` of every picture's key: (b, *shape)."""
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, index)
    return jax.vmap(lambda k: jax.random.normal(k, shape, dtype))(own)
