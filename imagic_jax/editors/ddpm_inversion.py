"""Edit-friendly DDPM inversion: noise maps that carry the picture through any edit.

Huberman-Spiegelglas et al. 2024, arXiv:2304.06140, algorithm 1.

    fit:     x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps_t       eps_t independent for every t
             z_t = (x_{t-1} - mu_t(x_t)) / sigma_t                 under the source text
    render:  x_{t-1} = mu_t(x_t) + sigma_t z_t                     under the target text

Under the source text the picture comes back exactly, from any step on.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage
from imagic_jax.backbones.generate import Sampling, denoiser
from imagic_jax.diffusion import inversion as loops
from imagic_jax.diffusion.inversion import Inversion
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
    """The inversion and where the edit begins.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1; the paper leaves out ("skip")
            36 of 100.
        source_guidance: scale of the source text while inverting, where there is one.
    """

    strength: float = 0.64
    source_guidance: float = 3.5


@functools.partial(jax.jit, static_argnames=("stage", "second_order"))
def noised(
    stage: Stage,
    params: Params,
    image: Float[Array, "1 h w 3"],
    levels: Grid,
    key: PRNGKeyArray,
    *,
    second_order: bool,
) -> Inversion:
    """A picture in [-1, 1] noised to every level; see `inversion.noised`."""
    return loops.noised(stage.prepare(params, image), levels, key, second_order)


@functools.partial(jax.jit, static_argnames=("stage", "guided"))
def walk(
    stage: Stage,
    params: Params,
    found: Inversion,
    cond: Cond,
    null: Cond,
    guidance: Float[Array, ""],
    levels: Grid,
    first: Int[Array, ""],
    inverting: Bool[Array, ""],
    *,
    guided: bool,
) -> Inversion:
    """`inversion.ddpm_walk` with the base, under `cond`, guided by `null` where `guided`."""
    denoise = denoiser(stage, params, cond, null if guided else None, Extra(), guidance)
    denoise = loops.remembering(denoise)
    return loops.ddpm_walk(denoise, stage.schedule, found, levels, first, inverting)


finish = jax.jit(lambda stage, params, x0: stage.finish(params, x0), static_argnums=0)


def invert(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    source_guidance: float,
    sampling: Sampling,
    key: PRNGKeyArray,
    second_order: bool = False,
) -> Inversion:
    """The noise maps of the picture for the base's sampler, or for the solver of second order.

    Without a source text the model is asked under the empty one, once a step.
    """
    stage, p = cascade.stages[0], params["stages"][0]
    levels = grid(stage.schedule, sampling.steps[0])
    return walk(
        stage,
        p,
        noised(stage, p, inputs.image, levels, key, second_order=second_order),
        (inputs.source or inputs.null)[0],
        inputs.null[0],
        jnp.float32(source_guidance),
        levels,
        jnp.int32(0),
        jnp.bool(True),
        guided=inputs.source is not None,
    )


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`."""
    return invert(cascade, params, inputs, config.source_guidance, sampling, key)


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
    """See `Method.render`. Another `key` for the fit, not another seed, gives another edit."""
    del config
    stage, steps, scale = cascade.stages[0], sampling.steps[0], sampling.guidance[0]
    levels = grid(stage.schedule, steps)

    def draw(strength: float) -> Array:
        drawn = walk(
            stage,
            params["stages"][0],
            fit,
            inputs.target[0],
            inputs.null[0],
            jnp.float32(1.0 if scale is None else scale),
            levels,
            jnp.int32(first_step(steps, strength)),
            jnp.bool(False),
            guided=scale is not None,
        )
        return finish(stage, params["stages"][0], drawn.latents[-1])

    return same_for_every_seed(draw, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`; half of `fit` without a source text."""
    del config
    steps = sampling.steps[0]
    rows = 1 if sampling.guidance[0] is None else 2
    return Cost(2 * steps, rows * (steps - first_step(steps, strength)))


METHOD = Method(
    name="ddpm_inversion",
    title="Edit-friendly DDPM inversion",
    paper="Huberman-Spiegelglas et al. 2024, arXiv:2304.06140",
    summary="keeps the picture in the sampler's noise maps and draws it again under the text",
    takes=frozenset({"source text"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
)
