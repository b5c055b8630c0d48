"""Null-text inversion: an empty text for each step, with which guidance keeps to a known path.

Mokady et al. 2023, arXiv:2211.09794, algorithm 1. From noisy to clean, beginning where the step
before ended:

    u_t = argmin_u  | step(x_t; eps(u) + w (eps(c) - eps(u))) - pivot_{t-1} |^2    few steps of Adam
    x_{t-1} = step(x_t; u_t)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from imagic_jax.diffusion import steps
from imagic_jax.diffusion.guidance import guide
from imagic_jax.diffusion.inversion import Inversion
from imagic_jax.diffusion.prediction import Prediction, Sample
from imagic_jax.diffusion.sampling import Denoiser
from imagic_jax.diffusion.schedule import Grid, Schedule
from imagic_jax.diffusion.thresholding import limited

Scalar = Float[Array, ""]
#: (x_t, t, states of the empty text) -> Prediction.
AsksWith = Callable[[Sample, Array, Array], Prediction]
_ADAM = optax.scale_by_adam()


def optimise(
    with_null: AsksWith,
    with_text: Denoiser,
    schedule: Schedule,
    found: Inversion,
    null: Float[Array, "b l d"],
    levels: Grid,
    guidance: Scalar,
    rate: Scalar,
    inner: Int[Array, ""],
) -> tuple[Inversion, Float[Array, "n 2"]]:
    """Finds the empty text of every step.

    As the authors' code does it, a step begins with the empty text of the step before, its rate
    falls to half over the run, and it stops early once the loss is below 1e-5, and 2e-5 more with
    every step.

    Args:
        with_null: the prediction under given states of the empty text.
        with_text: the prediction under the source text.
        schedule: says how x0 is limited.
        found: DDIM inversion without guidance: its latents are the pivots.
        null: states of the empty text, where the first step begins.
        levels: of the inversion.
        guidance: w; the edit must use the same.
        rate: of Adam, at first.
        inner: most steps of Adam per sampling step.

    Returns:
        (`found` with `cond_overrides`, the loss of each step before its first and last update).
    """
    count = len(levels.t)

    def step(carry: tuple[Array, Array], given: Any) -> tuple[Any, Any]:
        (x, null), (i, level, pivot) = carry, given
        told = with_text(x, level.t)

        def land(null: Array) -> Sample:
            p = guide(with_null(x, level.t, null), told, guidance)
            return steps.ddim(limited(schedule, p, x, level.abar, level.one_minus_abar), level)

        def improve(state: Any) -> Any:
            k, null, adam, losses = state
            loss, gradient = jax.value_and_grad(lambda u: jnp.mean((land(u) - pivot) ** 2))(null)
            updates, adam = _ADAM.update(gradient, adam)
            moved = null - rate * (1 - i / (2 * count)) * updates
            return k + 1, moved, adam, (jnp.where(k == 0, loss, losses[0]), loss)

        def unfinished(state: Any) -> Array:
            k, _, _, losses = state
            return (k < inner) & (losses[1] >= 1e-5 + 2e-5 * i)

        start = (0, null, _ADAM.init(null), (jnp.float32(jnp.inf), jnp.float32(jnp.inf)))
        _, null, _, losses = jax.lax.while_loop(unfinished, improve, start)
        return (land(null), null), (null, jnp.stack(losses))

    given = (jnp.arange(count), levels, found.latents[1:])
    _, (nulls, losses) = jax.lax.scan(step, (found.latents[0], null), given)
    return found._replace(cond_overrides=nulls), losses
