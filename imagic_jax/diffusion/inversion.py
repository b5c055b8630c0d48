"""Inversions: noise, and noise maps, from which a sampler draws a given picture again.

DDIM inversion (Song et al. 2021, section 4.3) walks the deterministic sampler backwards.
Edit-friendly DDPM inversion (Huberman-Spiegelglas et al. 2024, arXiv:2304.06140, section 3.2) draws
one noisy picture per level, each with noise of its own, and keeps the noise map that leads from
each to the next. `replay` and `ddpm_walk` walk down again, under another text.

Everything is in sampling order: index 0 is the noisiest level.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from imagic_jax.diffusion import steps
from imagic_jax.diffusion.prediction import Prediction, Sample
from imagic_jax.diffusion.sampling import Denoiser
from imagic_jax.diffusion.schedule import Grid, Schedule
from imagic_jax.diffusion.thresholding import limited

Convention = Literal["destination", "origin"]
Path = Float[Array, "n1 b *dims c"]
Scalar = Float[Array, ""]
#: (x_t, level, index of the step, state) -> (Prediction, state), for guidance that remembers.
StepDenoiser = Callable[[Sample, Grid, Int[Array, ""], Any], tuple[Prediction, Any]]


class Inversion(NamedTuple):
    """What an inversion found: arrays alone, so that it can be saved and rendered again.

    Attributes:
        latents: (n + 1, 1, h, w, c); `latents[i]` is where step i begins, `latents[n]` the picture
            as the replay gives it.
        noises: (n, 1, h, w, c), the noise map of each step; None where the sampler draws none.
        cond_overrides: (n, 1, l, d), states of the empty text for each step (null-text inversion).
        pair: the second path of a coupled inversion (EDICT), shaped as `latents`.
        guesses: (n, 1, h, w, c), the x0 that the model saw at each step, which a solver of second
            order reads (LEDITS++).
    """

    latents: Path
    noises: Float[Array, "n b *dims c"] | None = None
    cond_overrides: Float[Array, "n b l d"] | None = None
    pair: Path | None = None
    guesses: Float[Array, "n b *dims c"] | None = None


def row(levels: Grid, i: Int[Array, ""] | int) -> Grid:
    """One step's levels."""
    return Grid(*(column[i] for column in levels))


def remembering(denoise: Denoiser) -> StepDenoiser:
    """A denoiser that needs neither step nor state, as the loops below take it."""
    return lambda x, level, i, state: (denoise(x, level.t), state)


def asked_timesteps(levels: Grid, convention: Convention) -> Int[np.ndarray, "n"]:
    """The timestep at which DDIM inversion asks the network, for each step up.

    "destination": that of the level it goes to (prompt-to-prompt, null-text inversion), so that
    both directions ask at the same timesteps; about half the error. "origin": that of the level it
    comes from (DDIB, Guide-and-Rescale); the picture itself counts as timestep 0.
    """
    t = np.asarray(levels.t)
    return t if convention == "destination" else np.append(t[1:], np.zeros(1, t.dtype))


def ddim_invert(denoise: Denoiser, x0: Sample, levels: Grid, asked: Int[Array, "n"]) -> Inversion:
    """DDIM inversion: the deterministic sampler backwards, from the picture to noise.

    The network's eps at the timestep asked is taken for that of the latent. x0 is not limited on
    the way up, whatever the schedule says of sampling: what is clipped could not come back.

    Args:
        denoise: (x_t, t) -> Prediction, usually without guidance.
        x0: (1, h, w, c).
        levels: `schedule.grid`; its length is static.
        asked: `asked_timesteps`.
    """

    def up(x: Sample, step: tuple[Grid, Array]) -> tuple[Sample, Sample]:
        level, t = step
        x = steps.ddim_inverse(x, denoise(x, t).eps, level)
        return x, x

    _, path = jax.lax.scan(up, x0, (levels, asked), reverse=True)
    return Inversion(jnp.concatenate([path, x0[None]]))


def noised(x0: Sample, levels: Grid, key: PRNGKeyArray, second_order: bool = False) -> Inversion:
    """The picture noised to every level, each with noise of its own; noise maps yet to be found.

    Args:
        x0: (1, h, w, c).
        levels: `schedule.grid`; its length is static.
        key: level i draws from `fold_in(key, i)`; other keys give other inversions.
        second_order: for the solver of second order; False is the DDPM sampler.
    """

    def at(i: Int[Array, ""], abar: Scalar, rest: Scalar) -> Sample:
        noise = jax.random.normal(jax.random.fold_in(key, i), x0.shape, x0.dtype)
        return jnp.sqrt(abar).astype(x0.dtype) * x0 + jnp.sqrt(rest).astype(x0.dtype) * noise

    path = jax.vmap(at)(jnp.arange(len(levels.t)), levels.abar, levels.one_minus_abar)
    maps = jnp.zeros_like(path)
    guesses = maps if second_order else None
    return Inversion(jnp.concatenate([path, x0[None]]), maps, guesses=guesses)


def noise_map(target: Sample, mean: Sample, sigma: Scalar) -> Sample:
    """The noise that leads from `mean` to `target`; zeros where the step has none."""
    return jnp.where(sigma > 0, (target - mean) / jnp.where(sigma > 0, sigma, 1), 0)


def ddpm_walk(
    denoise: StepDenoiser,
    schedule: Schedule,
    found: Inversion,
    levels: Grid,
    first: Int[Array, ""],
    inverting: Bool[Array, ""],
    state: Any = None,
) -> Inversion:
    """A stochastic sampler from step `first` on: finds the noise maps, or draws with them.

    Both are one program, so that the model's answers round alike and the picture comes back to the
    last digits. The walk goes from noisy to clean and writes every landing into the path: the next
    step begins where the sampler arrives, so rounding does not add up. x0 is limited inside the
    mean, which leaves the reconstruction exact. Where a step has no noise (the last one, on grids
    that end at the picture itself) no map can close the gap: there `latents[-1]` is the model's
    last guess.

    Args:
        denoise: see `remembering`.
        schedule: says how x0 is limited.
        found: `noised` to invert, what that gave to draw.
        levels: of the inversion.
        first: how many of the noisiest steps are left out; traced, 0 to invert.
        inverting: whether the maps are looked for; traced.
        state: what `denoise` is given at step `first`.

    Returns:
        The path that was walked, its last latent the result, and the noise maps.
    """
    assert found.noises is not None

    def down(i: Int[Array, ""], carry: Any) -> Any:
        path, noises, guesses, state = carry
        x, level = path[i], row(levels, i)
        p, state = denoise(x, level, i, state)
        p = limited(schedule, p, x, level.abar, level.one_minus_abar)
        if guesses is None:
            mean, sigma = steps.ddim_mean(p, level, 1.0), steps.ddim_sigma(level, 1.0)
        else:
            above = jnp.maximum(i - 1, 0)
            last = steps.Guess(guesses[above], row(levels, above))
            mean, sigma = steps.dpm_solver(p, x, level, last, i > 0)
            guesses = guesses.at[i].set(p.x0)
        sigma = sigma.astype(x.dtype)
        noise = jnp.where(inverting, noise_map(path[i + 1], mean, sigma), noises[i])
        return path.at[i + 1].set(mean + sigma * noise), noises.at[i].set(noise), guesses, state

    carry = (found.latents, found.noises, found.guesses, state)
    path, noises, guesses, _ = jax.lax.fori_loop(first, len(levels.t), down, carry)
    return Inversion(path, noises, guesses=guesses)


def replay(
    denoise: StepDenoiser,
    schedule: Schedule,
    x: Sample,
    levels: Grid,
    first: Int[Array, ""],
    state: Any = None,
) -> Sample:
    """The deterministic sampler from x, which is where step `first` begins, down to x0.

    Args:
        denoise: see `remembering`; x0 is limited here, after guidance.
        schedule: says how x0 is limited.
        x: (b, h, w, c); `inversion.latents[first]`.
        levels: of the inversion.
        first: how many of the noisiest steps are left out; traced.
        state: what `denoise` is given at step `first`.
    """

    def down(i: Int[Array, ""], carry: tuple[Sample, Any]) -> tuple[Sample, Any]:
        x, state = carry
        level = row(levels, i)
        p, state = denoise(x, level, i, state)
        return steps.ddim(limited(schedule, p, x, level.abar, level.one_minus_abar), level), state

    return jax.lax.fori_loop(first, len(levels.t), down, (x, state))[0]
