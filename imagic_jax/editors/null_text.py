"""Null-text inversion: the empty text is optimised until guidance, too, gives the picture back.

Mokady et al. 2023, arXiv:2211.09794, algorithm 1; the loop is `diffusion.null_text`.

    fit:     DDIM inversion under the source text; then an empty text u_t for every step
    render:  the sampler from the inverted noise, under the target text, guided away from u_t
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
from imagic_jax.diffusion import null_text
from imagic_jax.diffusion.inversion import Convention, Inversion
from imagic_jax.diffusion.prediction import Prediction
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
from imagic_jax.editors.ddim_inversion import fit_under
from imagic_jax.errors import UserError
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How the empty texts are found, and how far up the edit begins.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1.
        convention: of the DDIM inversion, see `inversion.asked_timesteps`.
        learning_rate: of Adam; falls to half over the run.
        inner_steps: most steps of Adam per sampling step.
    """

    strength: float = 1.0
    convention: Convention = "destination"
    learning_rate: float = 1e-2
    inner_steps: int = 10


@functools.partial(jax.jit, static_argnames=("stage",))
def optimise(
    stage: Stage,
    params: Params,
    found: Inversion,
    cond: Cond,
    null: Cond,
    levels: Grid,
    guidance: Float[Array, ""],
    rate: Float[Array, ""],
    inner: Int[Array, ""],
) -> tuple[Inversion, Float[Array, "n 2"]]:
    """`diffusion.null_text.optimise` with the base: gradients reach the text's states alone."""

    def with_null(x: Array, t: Array, states: Array) -> Prediction:
        return stage.predict(params, x, t, null._replace(states=states), Extra())[0]

    def with_text(x: Array, t: Array) -> Prediction:
        return stage.predict(params, x, t, cond, Extra())[0]

    return null_text.optimise(
        with_null, with_text, stage.schedule, found, null.states, levels, guidance, rate, inner
    )


@functools.partial(jax.jit, static_argnames=("stage",))
def decode(
    stage: Stage,
    params: Params,
    found: Inversion,
    cond: Cond,
    null: Cond,
    guidance: Float[Array, ""],
    levels: Grid,
    first: Int[Array, ""],
) -> Float[Array, "1 s s 3"]:
    """The picture drawn from step `first` on, each step with its own empty text."""
    nulls = found.cond_overrides
    assert nulls is not None

    def denoise(x: Array, level: Grid, i: Array, state: None) -> tuple[Prediction, None]:
        own = null._replace(states=nulls[i])
        return denoiser(stage, params, cond, own, Extra(), guidance)(x, level.t), state

    x0 = loops.replay(denoise, stage.schedule, found.latents[first], levels, first)
    return stage.finish(params, x0)


def _scale(sampling: Sampling) -> Float[Array, ""]:
    if sampling.guidance[0] is None:
        raise UserError(
            f"{METHOD.name} is about guidance, and the base is drawn without (--guidance, above 1)"
        )
    return jnp.float32(sampling.guidance[0])


def check(config: Config, sampling: Sampling, clip: bool = False) -> None:
    """See `Method.check`."""
    del config, clip
    _scale(sampling)


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`. Deterministic; holds for one guidance scale, that of `sampling`."""
    del key
    stage, text = cascade.stages[0], source_of(inputs, METHOD.name)[0]
    guidance = _scale(sampling)
    found, _ = optimise(
        stage,
        params["stages"][0],
        fit_under(cascade, params, inputs, text, config.convention, sampling),
        text,
        inputs.null[0],
        grid(stage.schedule, sampling.steps[0]),
        guidance,
        jnp.float32(config.learning_rate),
        jnp.int32(config.inner_steps),
    )
    return found


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
    stage, steps, guidance = cascade.stages[0], sampling.steps[0], _scale(sampling)
    levels = grid(stage.schedule, steps)

    def draw(strength: float) -> Array:
        return decode(
            stage,
            params["stages"][0],
            fit,
            inputs.target[0],
            inputs.null[0],
            guidance,
            levels,
            jnp.int32(first_step(steps, strength)),
        )

    return same_for_every_seed(draw, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`, at most; a gradient counts as two further evaluations."""
    steps = sampling.steps[0]
    return Cost(steps * (3 + 3 * config.inner_steps), 2 * (steps - first_step(steps, strength)))


METHOD = Method(
    name="null_text",
    title="Null-text inversion",
    paper="Mokady et al. 2023, arXiv:2211.09794",
    summary="optimises the empty text of every step until guidance keeps the picture",
    needs=frozenset({"source text", "gradients"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
    check=check,
)
