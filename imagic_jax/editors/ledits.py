"""LEDITS: edit-friendly DDPM inversion, drawn again with semantic guidance.

Tsaban & Passos 2023, arXiv:2307.00522, algorithm 1:

    fit:     the noise maps of `ddpm_inversion`, under the source text (the authors: the empty one)
    render:  x_{t-1} = mu_t(x_t; e) + sigma_t z_t, with e of `semantic_guidance`

The target text speaks in e, or the concepts, or both. Steps are counted after what `strength`
leaves out, and so is a warm-up. Without concepts it is `ddpm_inversion`, the same program; with
concepts of scale 0 alone it gives the picture back.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade, Cond, Stage
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion import inversion as loops
from imagic_jax.diffusion.inversion import Inversion
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.editors import ddpm_inversion
from imagic_jax.editors.contracts import (
    Concept,
    Cost,
    Inputs,
    Method,
    Pictures,
    first_step,
    same_for_every_seed,
)
from imagic_jax.editors.semantic_guidance import (
    Momentum,
    Partial,
    momentum_of,
    numbers,
    semantic_denoiser,
)
from imagic_jax.errors import UserError
from imagic_jax.typing import Params

#: Which texts speak: the target's and the concepts', or one kind alone.
Mode = Literal["both", "target", "concepts"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The inversion, where the edit begins, and what edits.

    Attributes:
        strength, source_guidance: see `ddpm_inversion.Config`.
        mode: see `Mode`.
        momentum_scale, momentum_beta, partial: see `sega.Config`.
    """

    strength: float = 0.64
    source_guidance: float = 3.5
    mode: Mode = "both"
    momentum_scale: float = 0.3
    momentum_beta: float = 0.6
    partial: Partial = "mean"


@functools.partial(jax.jit, static_argnames=("stage", "partial"))
def edit(
    stage: Stage,
    params: Params,
    found: Inversion,
    null: Cond,
    text: Cond | None,
    concepts: Concept,
    guidance: Float[Array, ""],
    momentum: Momentum,
    levels: Grid,
    first: Int[Array, ""],
    *,
    partial: Partial,
) -> Float[Array, "1 s s 3"]:
    """The picture drawn from step `first` on with its noise maps, under the texts."""
    denoise = semantic_denoiser(
        stage, params, null, text, concepts, guidance, momentum, first, partial, 1
    )
    nu, draws = jnp.zeros_like(found.latents[0]), jnp.bool(False)
    drawn = loops.ddpm_walk(denoise, stage.schedule, found, levels, first, draws, nu)
    return stage.finish(params, drawn.latents[-1])


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`."""
    return ddpm_inversion.invert(cascade, params, inputs, config.source_guidance, sampling, key)


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
    stage, steps, scale = cascade.stages[0], sampling.steps[0], sampling.guidance[0]
    concepts = () if config.mode == "target" else inputs.concepts
    if config.mode == "concepts" and not concepts:
        raise UserError(f"{METHOD.name} of concepts alone needs a concept (--concept)")
    if not concepts:
        plain = ddpm_inversion.Config(strength=config.strength)
        args = (inputs, fit, plain, sampling, strengths, seeds)
        return ddpm_inversion.render(cascade, params, *args)
    levels = grid(stage.schedule, steps)

    def draw(strength: float) -> Array:
        return edit(
            stage,
            params["stages"][0],
            fit,
            inputs.null[0],
            None if config.mode == "concepts" else inputs.target[0],
            numbers(concepts),
            jnp.float32(1.0 if scale is None else scale),
            momentum_of(config.momentum_scale, config.momentum_beta),
            levels,
            jnp.int32(first_step(steps, strength)),
            partial=config.partial,
        )

    return same_for_every_seed(draw, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`, with one concept; each other one adds a row to every step."""
    steps = sampling.steps[0]
    rows = {"both": 3, "concepts": 2, "target": 1 if sampling.guidance[0] is None else 2}
    return Cost(2 * steps, rows[config.mode] * (steps - first_step(steps, strength)))


METHOD = Method(
    name="ledits",
    title="LEDITS",
    paper="Tsaban & Passos 2023, arXiv:2307.00522",
    summary="keeps the picture in noise maps and draws it again under the text and with concepts",
    takes=frozenset({"source text", "concepts"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
)
