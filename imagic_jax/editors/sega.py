"""SEGA: the picture noised part of the way, and drawn back with concepts added or taken away.

Brack et al. 2023, arXiv:2301.12247; the guidance is that of `semantic_guidance`. The start is
SDEdit's, at the level that `strength` names; with strength 1 hardly anything of the picture is
left, which is the paper's setting.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from imagic_jax.backbones.contracts import Cascade, Cond, Stage
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion import inversion as loops
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.editors.contracts import (
    Concept,
    Cost,
    Inputs,
    Method,
    Pictures,
    first_step,
    in_batches,
    no_fit,
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The start, the momentum, and which texts speak.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1.
        momentum_scale, momentum_beta: s_m and beta.
        partial: see `semantic_guidance.Partial`.
        target: whether the target text speaks beside the concepts.
    """

    strength: float = 0.8
    momentum_scale: float = 0.3
    momentum_beta: float = 0.6
    partial: Partial = "mean"
    target: bool = True


@functools.partial(jax.jit, static_argnames=("stage", "partial"))
def edit(
    stage: Stage,
    params: Params,
    image: Float[Array, "1 h w 3"],
    null: Cond,
    text: Cond | None,
    concepts: Concept,
    keys: Key[Array, " b"],
    guidance: Float[Array, ""],
    momentum: Momentum,
    levels: Grid,
    first: Int[Array, ""],
    *,
    partial: Partial,
) -> Float[Array, "b s s 3"]:
    """One batch: a picture noised to the level of step `first` and drawn back, one per key."""
    batch, x0 = keys.shape[0], stage.prepare(params, image)
    noise = jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, 0), x0.shape[1:]))(keys)
    level = loops.row(levels, first)
    x = jnp.sqrt(level.abar) * x0 + jnp.sqrt(level.one_minus_abar) * noise
    denoise = semantic_denoiser(
        stage, params, null, text, concepts, guidance, momentum, first, partial, batch
    )
    drawn = loops.replay(denoise, stage.schedule, x, levels, first, jnp.zeros_like(x))
    return stage.finish(params, jnp.where(first < len(levels.t), drawn, x0))


def render(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    fit: None,
    config: Config,
    sampling: Sampling,
    strengths: Sequence[float],
    seeds: Sequence[int],
) -> Pictures:
    """See `Method.render`. The same seed starts from the same noise at every strength."""
    del fit
    if not inputs.concepts:
        raise UserError(f"{METHOD.name} needs a concept to add or to remove (--concept)")
    stage, steps, scale = cascade.stages[0], sampling.steps[0], sampling.guidance[0]
    levels = grid(stage.schedule, steps)

    def draw(strength: float, keys: Key[Array, " b"]) -> Array:
        return edit(
            stage,
            params["stages"][0],
            inputs.image,
            inputs.null[0],
            inputs.target[0] if config.target else None,
            numbers(inputs.concepts),
            keys,
            jnp.float32(1.0 if scale is None else scale),
            momentum_of(config.momentum_scale, config.momentum_beta),
            levels,
            jnp.int32(first_step(steps, strength)),
            partial=config.partial,
        )

    drawn = [in_batches(functools.partial(draw, s), seeds, sampling.batch) for s in strengths]
    return np.stack(drawn)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`, with one concept; each other one adds a row to every step."""
    steps = sampling.steps[0]
    return Cost(0, (2 + config.target) * (steps - first_step(steps, strength)))


METHOD = Method(
    name="sega",
    title="SEGA",
    paper="Brack et al. 2023, arXiv:2301.12247",
    summary="noises the picture and draws it back with concepts added or taken away",
    needs=frozenset({"concepts"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.05 + 0.09 * i, 2) for i in range(11)),
    fit=no_fit,
    render=render,
    cost=cost,
)
