"""Plug-and-play: the edit takes over the source's features and what its pixels see alike.

Tumanyan et al. 2023, arXiv:2211.12572, algorithm 1. With z*_t the picture's DDIM inversion:

    at each step, three rows: z*_t under the source (or the empty) text; z_t under the empty and
    under the target text, which take from the first row
        f      the residual branch of one block (`attention.layout_block`), for the first `features`
        q, k   of self-attention from that block on, for the first `attention`

Queries and keys fix the map A = softmax(q k^T). In added-KV attention, where text and pixels share
one softmax, the keys of the pixels are taken over and those of the text stay: the source's queries
then read the target's text.
"""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Interceptor, Site, Stage, stack
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion import steps
from imagic_jax.diffusion.guidance import guide
from imagic_jax.diffusion.inversion import Convention, Inversion, row
from imagic_jax.diffusion.prediction import Prediction
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.diffusion.thresholding import limited
from imagic_jax.editors import attention
from imagic_jax.editors.attention import Call
from imagic_jax.editors.contracts import (
    Cost,
    Inputs,
    Method,
    Pictures,
    same_for_every_seed,
    share_of,
)
from imagic_jax.editors.ddim_inversion import fit_under
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """For how long the source is taken over.

    Attributes:
        injection: the share of the steps, 0..1, from the noisiest, that take over features.
        attention: of those, the share that take over queries and keys as well: 0.625 is the
            published 0.5 of all steps beside 0.8.
        convention: see `inversion.asked_timesteps`.
    """

    injection: float = 0.8
    attention: float = 0.625
    convention: Convention = "destination"


def injected_sites(stage: Stage) -> tuple[Site, ...]:
    """The self-attentions whose queries and keys are taken over: those after the block."""
    block = attention.layout_block(stage)
    order = stage.sites()
    later = order[order.index(block) + 1 :]
    return tuple(s for s in later if s.role in ("self", "joint"))


def injection(stage: Stage, features: Bool[Array, ""], maps: Bool[Array, ""]) -> Interceptor:
    """Gives the first row's features and maps to the rows behind it, where they are on."""

    def from_first(on: Array, x: Array) -> Array:
        return jnp.where(on, jnp.broadcast_to(x[:1], x.shape), x)

    def change(call: Call) -> Array:
        text, pixels = call.k[:, : call.text_keys], call.k[:, call.text_keys :]
        keys = jnp.concatenate([text, from_first(maps, pixels)], axis=1)
        return call.own(from_first(maps, call.q), keys, call.v)

    def branch(x: Array, module: nn.Module) -> Array:
        del module
        return from_first(features, x)

    block = attention.layout_block(stage)
    return attention.both(
        attention.at_attention(injected_sites(stage), change),
        attention.at_output((*block.path, "conv2"), branch),
    )


@functools.partial(jax.jit, static_argnames=("stage", "guided"))
def edit(
    stage: Stage,
    params: Params,
    found: Inversion,
    source: Cond,
    target: Cond,
    null: Cond,
    guidance: Float[Array, ""],
    levels: Grid,
    feature_steps: Int[Array, ""],
    attention_steps: Int[Array, ""],
    *,
    guided: bool,
) -> Float[Array, "1 s s 3"]:
    """The edit: (1, S, S, 3) in [-1, 1].

    Args:
        stage, params: the base.
        found: the picture's inversion on `levels`, under `source`.
        source, target, null: texts, batch of 1; `null` is read where `guided`.
        guidance: scale.
        levels: `schedule.grid`.
        feature_steps, attention_steps: how many steps take over from the source.
        guided: whether `null` runs beside the target.
    """
    texts = stack(source, null, target) if guided else stack(source, target)

    def body(i: Array, x: Array) -> Array:
        level = row(levels, i)
        rows = jnp.concatenate([found.latents[i], *[x] * (2 if guided else 1)])
        injected = injection(stage, i < feature_steps, i < attention_steps)
        p, _ = stage.predict(params, rows, level.t, texts, Extra(), injected)
        p = guide(_row(p, 1), _row(p, 2), guidance) if guided else _row(p, 1)
        return steps.ddim(limited(stage.schedule, p, x, level.abar, level.one_minus_abar), level)

    x = jax.lax.fori_loop(0, len(levels.t), body, found.latents[0])
    return stage.finish(params, x)


def _row(p: Prediction, i: int) -> Prediction:
    return jax.tree.map(lambda a: a[i : i + 1], p)


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`: DDIM inversion, under the source text if there is one."""
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
    """See `Method.render`; the strengths are values of `injection`."""
    stage, count, scale = cascade.stages[0], sampling.steps[0], sampling.guidance[0]
    levels = grid(stage.schedule, count)

    def draw(strength: float) -> Array:
        return edit(
            stage,
            params["stages"][0],
            fit,
            (inputs.source or inputs.null)[0],
            inputs.target[0],
            inputs.null[0],
            jnp.float32(1.0 if scale is None else scale),
            levels,
            jnp.int32(share_of(count, strength, METHOD.knob)),
            jnp.int32(share_of(count, strength * config.attention, "attention")),
            guided=scale is not None,
        )

    return same_for_every_seed(draw, strengths, seeds)


def _cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    del config
    count = sampling.steps[0]
    share_of(count, strength, METHOD.knob)  # any share costs the same
    return Cost(count, count * (2 if sampling.guidance[0] is None else 3))


METHOD = Method(
    name="plug_and_play",
    title="Plug-and-play",
    paper="Tumanyan et al. 2023, arXiv:2211.12572",
    summary="draws the picture's own noise under the text, with the picture's features put in",
    needs=frozenset({"attention"}),
    takes=frozenset({"source text"}),
    config=Config,
    knob="injection",
    strengths=tuple(round(1 - 0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=_cost,
    refuses=attention.refuses,
)
