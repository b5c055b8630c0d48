"""DDIM inversion: the picture's own noise, drawn again under another text, with guidance.

Song et al. 2021, arXiv:2010.02502, section 4.3; as an editor: Mokady et al. 2023, section 3.1.

    up:    x_{t+1} = the deterministic step backwards, under the source text, without guidance
    down:  the deterministic sampler from x_t, under the target text, with guidance

With the source text and without guidance it gives the picture back up to an error of first order in
the step; guidance enlarges that error.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage
from imagic_jax.backbones.generate import Sampling, denoiser
from imagic_jax.diffusion import inversion as loops
from imagic_jax.diffusion.inversion import Convention, Inversion
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.editors.contracts import (
    Cost,
    Inputs,
    Method,
    Pictures,
    first_step,
    same_for_every_seed,
)
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How the picture is inverted, and how far up the edit begins.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1.
        convention: at which timestep the network is asked on the way up, see
            `inversion.asked_timesteps`.
    """

    strength: float = 1.0
    convention: Convention = "destination"


@functools.partial(jax.jit, static_argnames=("stage",))
def invert(
    stage: Stage,
    params: Params,
    image: Float[Array, "1 h w 3"],
    cond: Cond,
    levels: Grid,
    asked: Int[Array, "n"],
) -> Inversion:
    """The path of a picture up to noise, under one text, without guidance.

    Args:
        stage, params: the base.
        image: (1, H, W, 3) in [-1, 1].
        cond: the text, batch of 1.
        levels, asked: `schedule.grid` and `inversion.asked_timesteps`.
    """
    denoise = denoiser(stage, params, cond, None, Extra(), jnp.float32(1.0))
    return loops.ddim_invert(denoise, stage.prepare(params, image), levels, asked)


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
    *,
    guided: bool,
) -> Float[Array, "1 s s 3"]:
    """The picture drawn down from step `first` of the path; guided by `null` where `guided`."""
    denoise = denoiser(stage, params, cond, null if guided else None, Extra(), guidance)
    x = found.latents[first]
    x0 = loops.replay(loops.remembering(denoise), stage.schedule, x, levels, first)
    return stage.finish(params, x0)


def fit_under(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    text: Cond,
    convention: Convention,
    sampling: Sampling,
) -> Inversion:
    """The base's inversion of the picture under a text."""
    stage = cascade.stages[0]
    levels = grid(stage.schedule, sampling.steps[0])
    asked = jnp.asarray(loops.asked_timesteps(levels, convention))
    return invert(stage, params["stages"][0], inputs.image, text, levels, asked)


def render_under(
    cascade: Cascade,
    params: Params,
    found: Inversion,
    cond: Cond,
    null: Cond,
    guidance: float | None,
    sampling: Sampling,
    strengths: Sequence[float],
    seeds: Sequence[int],
) -> Pictures:
    """The inverted picture drawn again under a text, guided by `null` where there is a scale."""
    stage, steps = cascade.stages[0], sampling.steps[0]
    levels = grid(stage.schedule, steps)

    def draw(strength: float) -> Array:
        return decode(
            stage,
            params["stages"][0],
            found,
            cond,
            null,
            jnp.float32(1.0 if guidance is None else guidance),
            levels,
            jnp.int32(first_step(steps, strength)),
            guided=guidance is not None,
        )

    return same_for_every_seed(draw, strengths, seeds)


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`. Without a source text the picture is inverted under the empty one."""
    del key
    text = (inputs.source or inputs.null)[0]
    return fit_under(cascade, params, inputs, text, config.convention, sampling)


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
    """See `Method.render`."""
    del config
    cond, null = inputs.target[0], inputs.null[0]
    scale = sampling.guidance[0]
    return render_under(cascade, params, fit, cond, null, scale, sampling, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`."""
    del config
    steps = sampling.steps[0]
    rows = 1 if sampling.guidance[0] is None else 2
    return Cost(steps, rows * (steps - first_step(steps, strength)))


METHOD = Method(
    name="ddim_inversion",
    title="DDIM inversion",
    paper="Song et al. 2021, arXiv:2010.02502",
    summary="finds the noise that the picture comes from and draws it again under the text",
    takes=frozenset({"source text"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
)
