"""SDEdit: noise the picture part of the way, and draw it back under the text.

Meng et al. 2022, arXiv:2108.01073, algorithm 1 (the deterministic sampler in place of the SDE's):

    x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) eps        at the level that `strength` names
    x_0 = sample from x_t down, under the target text, with guidance
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage, repeat
from imagic_jax.backbones.generate import Sampling, denoiser
from imagic_jax.diffusion import sampling as loops
from imagic_jax.diffusion.sampling import Sampler
from imagic_jax.diffusion.schedule import Grid, add_noise, padded_grid
from imagic_jax.editors.contracts import (
    Cost,
    Inputs,
    Method,
    Pictures,
    first_step,
    in_batches,
    no_fit,
)
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """`strength`: the share of the sampling steps that are done, 0..1 (diffusers' img2img)."""

    strength: float = 0.6


@functools.partial(jax.jit, static_argnames=("stage", "guided", "sampler"))
def edit(
    stage: Stage,
    params: Params,
    image: Float[Array, "1 h w 3"],
    cond: Cond,
    null: Cond,
    keys: Key[Array, " b"],
    guidance: Float[Array, ""],
    levels: Grid,
    num_steps: Int[Array, ""],
    *,
    guided: bool,
    sampler: Sampler,
) -> Float[Array, "b s s 3"]:
    """One batch: (1, S, S, 3) to (b, s, s, 3), both in [-1, 1].

    Args:
        stage, params: the base.
        image: the picture.
        cond, null: texts, batch of 1.
        keys: (b,) one per picture; see `generate.draw`.
        guidance: scale; read where `guided`.
        levels, num_steps: the steps that are done (`padded_grid` with a start).
        guided, sampler: see `Sampling`.
    """
    batch = keys.shape[0]
    x0 = stage.prepare(params, image)
    noise = loops.normal(keys, 0, x0.shape[1:])
    start = jnp.broadcast_to(levels.t[0], (batch,))
    x_t = add_noise(stage.schedule, x0, noise, start)
    denoise = denoiser(
        stage,
        params,
        repeat(cond, batch),
        repeat(null, batch) if guided else None,
        Extra(),
        guidance,
    )
    step_keys = jax.vmap(jax.random.fold_in, (0, None))(keys, 2)
    x = loops.sample(denoise, stage.schedule, x_t, levels, num_steps, step_keys, sampler)
    return stage.finish(params, jnp.where(num_steps > 0, x, x0))


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
    del fit, config
    stage, scale = cascade.stages[0], sampling.guidance[0]
    rows = []
    for strength in strengths:
        levels = padded_grid(
            stage.schedule, sampling.steps[0], first_step(sampling.steps[0], strength)
        )
        drawn = in_batches(
            lambda keys, levels=levels: edit(
                stage,
                params["stages"][0],
                inputs.image,
                inputs.target[0],
                inputs.null[0],
                keys,
                jnp.float32(1.0 if scale is None else scale),
                *levels,
                guided=scale is not None,
                sampler=sampling.sampler,
            ),
            seeds,
            sampling.batch,
        )
        rows.append(drawn)
    return np.stack(rows)


METHOD = Method(
    name="sdedit",
    title="SDEdit",
    paper="Meng et al. 2022, arXiv:2108.01073",
    summary="noises the picture part of the way and draws it back under the text",
    config=Config,
    knob="strength",
    strengths=tuple(round(0.05 + 0.09 * i, 2) for i in range(11)),
    fit=no_fit,
    render=render,
    cost=lambda config, sampling, strength: Cost(
        0,
        (sampling.steps[0] - first_step(sampling.steps[0], strength))
        * (1 if sampling.guidance[0] is None else 2),
    ),
)
