"""EDICT: exact inversion by two coupled latents, drawn again under another text.

Wallace et al. 2023, arXiv:2211.12446, algorithm 1; the steps are those of `diffusion.coupled`.

    fit:     both latents start as the picture and go up under the source text, with guidance
    render:  the pair goes down under the target text, with the same guidance

Under the source text the picture comes back, up to rounding that grows with the number of steps
(the paper computes in float64; in float32 a `mixing` nearer to 1 keeps it small).
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage
from imagic_jax.backbones.generate import Sampling, denoiser
from imagic_jax.diffusion import coupled
from imagic_jax.diffusion.inversion import Inversion
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.editors.contracts import (
    Cost,
    Inputs,
    Method,
    Pictures,
    first_step,
    same_for_every_seed,
    source_of,
)
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How the latents are coupled, and how far up the edit begins.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1.
        mixing: p, how much of a latent stays its own in each step.
    """

    strength: float = 0.8
    mixing: float = 0.93


@functools.partial(jax.jit, static_argnames=("stage", "guided"))
def invert(
    stage: Stage,
    params: Params,
    image: Float[Array, "1 h w 3"],
    cond: Cond,
    null: Cond,
    guidance: Float[Array, ""],
    levels: Grid,
    mixing: Float[Array, ""],
    *,
    guided: bool,
) -> Inversion:
    """Both paths of a picture in [-1, 1], under `cond`, guided by `null` where `guided`."""
    denoise = denoiser(stage, params, cond, null if guided else None, Extra(), guidance)
    return coupled.invert(denoise, stage.schedule, stage.prepare(params, image), levels, mixing)


@functools.partial(jax.jit, static_argnames=("stage", "guided"))
def decode(
    stage: Stage,
    params: Params,
    found: Inversion,
    cond: Cond,
    null: Cond,
    guidance: Float[Array, ""],
    levels: Grid,
    first: Int[Array, ""],
    mixing: Float[Array, ""],
    *,
    guided: bool,
) -> Float[Array, "1 s s 3"]:
    """The picture that the pair gives from step `first` on, under another text."""
    assert found.pair is not None
    denoise = denoiser(stage, params, cond, null if guided else None, Extra(), guidance)
    pair = (found.latents[first], found.pair[first])
    x0, _ = coupled.replay(denoise, stage.schedule, pair, levels, first, mixing)
    return stage.finish(params, x0)


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`: up under the source text, with the guidance of the way down."""
    del key
    stage, scale = cascade.stages[0], sampling.guidance[0]
    return invert(
        stage,
        params["stages"][0],
        inputs.image,
        source_of(inputs, METHOD.name)[0],
        inputs.null[0],
        jnp.float32(1.0 if scale is None else scale),
        grid(stage.schedule, sampling.steps[0]),
        jnp.float32(config.mixing),
        guided=scale is not None,
    )


def render(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    fit: Inversion,
    config: Config,
    sampling: Sampling,
    strengths: Sequence[float],
    seeds: Sequence[int],
) -> Pictures:
    """See `Method.render`. `config.mixing` and the guidance must be those of the fit."""
    stage, steps, scale = cascade.stages[0], sampling.steps[0], sampling.guidance[0]
    levels = grid(stage.schedule, steps)

    def draw(strength: float) -> Array:
        return decode(
            stage,
            params["stages"][0],
            fit,
            inputs.target[0],
            inputs.null[0],
            jnp.float32(1.0 if scale is None else scale),
            levels,
            jnp.int32(first_step(steps, strength)),
            jnp.float32(config.mixing),
            guided=scale is not None,
        )

    return same_for_every_seed(draw, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`: two evaluations a step, each with the empty text beside it."""
    del config
    steps, rows = sampling.steps[0], 2 if sampling.guidance[0] is None else 4
    return Cost(rows * steps, rows * (steps - first_step(steps, strength)))


METHOD = Method(
    name="edict",
    title="EDICT",
    paper="Wallace et al. 2023, arXiv:2211.12446",
    summary="inverts the picture exactly by two coupled latents and draws them under the text",
    needs=frozenset({"source text"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
)
