"""EDICT: two latents that predict each other's noise, so that every step can be undone exactly.

Wallace et al. 2023, arXiv:2211.12446, equations 13-16. With the deterministic step written as
x' = a x + b eps, one step down is

    x <- a x + b eps(y)          y <- a y + b eps(x)
    x <- p x + (1 - p) y         y <- p y + (1 - p) x

and one step up undoes these four lines in reverse order. Every other step x and y change roles.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from imagic_jax.diffusion import steps
from imagic_jax.diffusion.inversion import Inversion, row
from imagic_jax.diffusion.prediction import Sample
from imagic_jax.diffusion.sampling import Denoiser
from imagic_jax.diffusion.schedule import Grid, Schedule
from imagic_jax.diffusion.thresholding import limited

Pair = tuple[Array, Array]
#: A latent at a level -> its eps.
Asks = Callable[[Sample, Grid], Sample]


def asking(denoise: Denoiser, schedule: Schedule) -> Asks:
    """eps of a latent. Where x0 is limited, eps follows: a function of one latent all the same."""

    def eps(x: Sample, level: Grid) -> Sample:
        p = denoise(x, level.t)
        return limited(schedule, p, x, level.abar, level.one_minus_abar).eps

    return eps


def _exchanged(pair: Pair, when: Bool[Array, ""]) -> Pair:
    x, y = pair
    return jnp.where(when, y, x), jnp.where(when, x, y)


def down(eps: Asks, pair: Pair, level: Grid, mixing: Array, swap: Bool[Array, ""]) -> Pair:
    """One step towards the picture."""
    scale, shift = (c.astype(pair[0].dtype) for c in steps.ddim_coefficients(level))
    x, y = _exchanged(pair, swap)
    x = scale * x + shift * eps(y, level)
    y = scale * y + shift * eps(x, level)
    x, y = _exchanged((x, y), swap)
    x = mixing * x + (1 - mixing) * y
    y = mixing * y + (1 - mixing) * x
    return x, y


def up(eps: Asks, pair: Pair, level: Grid, mixing: Array, swap: Bool[Array, ""]) -> Pair:
    """One step towards noise: `down` undone."""
    scale, shift = (c.astype(pair[0].dtype) for c in steps.ddim_coefficients(level))
    x, y = pair
    y = (y - (1 - mixing) * x) / mixing
    x = (x - (1 - mixing) * y) / mixing
    x, y = _exchanged((x, y), swap)
    y = (y - shift * eps(x, level)) / scale
    x = (x - shift * eps(y, level)) / scale
    return _exchanged((x, y), swap)


def _swaps(levels: Grid, i: Int[Array, ""]) -> Bool[Array, ""]:
    """Counted from the picture, so that the order does not depend on where an edit begins."""
    return (len(levels.t) - 1 - i) % 2 == 0


def invert(
    denoise: Denoiser, schedule: Schedule, x0: Sample, levels: Grid, mixing: Float[Array, ""]
) -> Inversion:
    """Both paths from the picture up to noise: `latents` and `pair`.

    Args:
        denoise: (x_t, t) -> Prediction, guidance inside.
        schedule: says how x0 is limited.
        x0: (1, h, w, c); both latents begin as it.
        levels: `schedule.grid`; its length is static.
        mixing: p in (0, 1]. Rounding grows by up to p^-2 with each step.
    """
    eps, mixing = asking(denoise, schedule), mixing.astype(x0.dtype)

    def climb(pair: Pair, i: Int[Array, ""]) -> tuple[Pair, Pair]:
        pair = up(eps, pair, row(levels, i), mixing, _swaps(levels, i))
        return pair, pair

    _, (x, y) = jax.lax.scan(climb, (x0, x0), jnp.arange(len(levels.t)), reverse=True)
    return Inversion(jnp.concatenate([x, x0[None]]), pair=jnp.concatenate([y, x0[None]]))


def replay(
    denoise: Denoiser,
    schedule: Schedule,
    pair: Pair,
    levels: Grid,
    first: Int[Array, ""],
    mixing: Float[Array, ""],
) -> Pair:
    """Both latents from where step `first` begins down to the picture; either is the result."""
    eps, mixing = asking(denoise, schedule), mixing.astype(pair[0].dtype)

    def descend(i: Int[Array, ""], pair: Pair) -> Pair:
        return down(eps, pair, row(levels, i), mixing, _swaps(levels, i))

    return jax.lax.fori_loop(first, len(levels.t), descend, pair)
