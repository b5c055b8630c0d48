"""Prompt-to-prompt: the edit keeps where the source text's words look, and what pixels see alike.

Hertz et al. 2022, arXiv:2208.01626, algorithm 1, on a real picture: its noise is found by DDIM
inversion, and the source text stands for the empty one in guidance (Miyake et al. 2023,
arXiv:2305.16807, negative-prompt inversion), so that the source row draws the picture again.

    z, z* = the noise of the picture, twice
    at each step, for the target row z, beside the source row z*:
        M <- (M* mapper + own M) scale      cross-attention, for the first `cross_replace`
        S <- S*                             self-attention, for the first `self_replace`
    z <- z* + place (z - z*)                local blend, where words are named

`words.align` makes mapper, own, scale and place: words replaced, refined, reweighted, placed. In
added-KV attention, where text and pixels share one softmax, M and S are its two parts, each
renormalised, and the text's share stays the target's (`editors.attention`).
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

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
    source_of,
)
from imagic_jax.editors.ddim_inversion import fit_under
from imagic_jax.editors.words import Words
from imagic_jax.errors import UserError
from imagic_jax.typing import Params

PLACE_SHARE = 0.25  # cells per side of the maps that tell places, of x_t's: 16 of 64
PLACE_LEVEL = 0.3  # of the highest value: what lies above is the place
PLACE_BEGINS = 0.2  # share of the steps before the first local blend


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What is kept, and for how long.

    Attributes:
        cross_replace, self_replace: shares of the steps, 0..1, from the noisiest. The first is
            what trades the picture for the text (section 3.2 there: tau).
        finest: self-attention is kept on grids of up to this share of x_t's side: 0.25 in the first
            code (16 of 64), 0.5 in the later one.
        away: what guidance leads away from: "source" (negative-prompt inversion) or "null".
        convention: see `inversion.asked_timesteps`.
    """

    cross_replace: float = 0.8
    self_replace: float = 0.6
    finest: float = 0.5
    away: Literal["source", "null"] = "source"
    convention: Convention = "destination"


class Control(NamedTuple):
    """What a step changes; all traced."""

    words: Words
    cross: Bool[Array, ""]  # whether cross-attention is replaced in this step
    own: Bool[Array, ""]  # whether self-attention is


def control(stage: Stage, how: Control, finest: float, place: bool) -> Interceptor:
    """Changes the attention of a batch's last row by that of the row before it: [.., z*, z]."""
    side = stage.sample_shape(1)[1]
    kept = {s.path for s in attention.self_sites(stage) if s.side <= finest * side}
    telling = {s.path for s in place_sites(stage)} if place else set()

    def change(call: Call) -> Array:
        out = call.own(call.q, call.k, call.v)
        text, pixels, share = attention.parts(call.q[-2:], call.k[-2:], call.text_keys)
        if text is not None:
            taken = text[0] @ how.words.mapper + how.words.own * text[1]
            edited = jnp.where(how.cross, taken * how.words.scale, text[1])
            text = jnp.stack([text[0], edited])
        if pixels is not None and call.module.path in kept:
            pixels = jnp.stack([pixels[0], jnp.where(how.own, pixels[0], pixels[1])])
        if text is not None and call.module.path in telling:
            call.sow("place", jnp.einsum("bnl,bl->bn", text.mean(axis=1), how.words.place))
        made = attention.read(attention.Parts(text, pixels, share), call.v[-2:])
        return out.at[-2:].set(made)

    sites = {s for s in stage.sites() if s.role in ("cross", "joint") or s.path in kept}
    return attention.at_attention(sites, change)


def place_sites(stage: Stage) -> list[Site]:
    """Where words are read on the grid that tells places best."""
    sites, side = attention.cross_sites(stage), stage.sample_shape(1)[1]
    best = min({s.side for s in sites}, key=lambda cells: abs(cells - PLACE_SHARE * side))
    return [s for s in sites if s.side == best]


@functools.partial(jax.jit, static_argnames=("stage", "guided", "finest", "place"))
def edit(
    stage: Stage,
    params: Params,
    found: Inversion,
    source: Cond,
    target: Cond,
    null: Cond,
    words: Words,
    guidance: Float[Array, ""],
    levels: Grid,
    cross_steps: Int[Array, ""],
    self_steps: Int[Array, ""],
    *,
    guided: bool,
    finest: float,
    place: bool,
) -> Float[Array, "2 s s 3"]:
    """The picture drawn again, and the edit: (2, S, S, 3) in [-1, 1].

    Args:
        stage, params: the base.
        found: the picture's inversion on `levels`, under the source text. Its `cond_overrides`
            (null-text inversion), where it has any, take the place of `null`.
        source, target, null: texts, batch of 1; `null` is read where `guided`.
        words: see `words.align`.
        guidance: scale.
        levels: `schedule.grid`.
        cross_steps, self_steps: for how many steps attention is kept.
        guided: whether `null` runs beside the texts.
        finest: see `Config`.
        place: whether `words.place` names any words.
    """
    begins = jnp.ceil(PLACE_BEGINS * len(levels.t))

    def body(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x, seen = carry
        level = row(levels, i)
        how = Control(words, i < cross_steps, i < self_steps)
        rows = jnp.concatenate([x, x]) if guided else x
        own = null
        if found.cond_overrides is not None:
            own = null._replace(states=found.cond_overrides[i])
        texts = stack(own, own, source, target) if guided else stack(source, target)
        changed = control(stage, how, finest, place)
        p, aux = stage.predict(params, rows, level.t, texts, Extra(), changed)
        p = _guided(p, guidance) if guided else p
        p = limited(stage.schedule, p, x, level.abar, level.one_minus_abar)
        x = steps.ddim(p, level)
        if place:
            seen = seen + sum(attention.handed_out(aux, "place").values())
            x = jnp.where(i >= begins, blended(x, seen), x)
        return x, seen

    x = jnp.concatenate([found.latents[0]] * 2)
    cells = place_sites(stage)[0].side ** 2 if place else 0
    x, _ = jax.lax.fori_loop(0, len(levels.t), body, (x, jnp.zeros((2, cells))))
    return stage.finish(params, x)


def _guided(p: Prediction, scale: Float[Array, ""]) -> Prediction:
    half = p.x0.shape[0] // 2
    empty, told = (jax.tree.map(lambda a, s=s: a[s], p) for s in (slice(half), slice(half, None)))
    return guide(empty, told, scale)


def blended(x: Float[Array, "2 h w c"], seen: Float[Array, "2 n"]) -> Float[Array, "2 h w c"]:
    """The target row, kept where the words of either text are; the source row elsewhere."""
    side = round(seen.shape[1] ** 0.5)
    maps = nn.max_pool(seen.reshape(2, side, side, 1), (3, 3), padding="SAME")
    maps = jax.image.resize(maps, (*x.shape[:3], 1), "nearest")
    maps = maps / jnp.maximum(maps.max(axis=(1, 2, 3), keepdims=True), 1e-12)
    inside = jnp.any(maps > PLACE_LEVEL, axis=0)
    return jnp.concatenate([x[:1], jnp.where(inside, x[1:], x[:1])])


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`: DDIM inversion under the source text.

    `null_text.fit` gives an inversion that `render` takes as well.
    """
    del key
    text = source_of(inputs, METHOD.name)[0]
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
    """See `Method.render`; the strengths are values of `cross_replace`."""
    source = source_of(inputs, METHOD.name)[0]
    if inputs.words is None:
        raise UserError(f"{METHOD.name} needs to know which words belong together (words.align)")
    words, scale = inputs.words, sampling.guidance[0]
    stage, count = cascade.stages[0], sampling.steps[0]
    levels = grid(stage.schedule, count)

    def draw(strength: float) -> Array:
        drawn = edit(
            stage,
            params["stages"][0],
            fit,
            source,
            inputs.target[0],
            source if config.away == "source" else inputs.null[0],
            jax.tree.map(jnp.asarray, words),
            jnp.float32(1.0 if scale is None else scale),
            levels,
            jnp.int32(share_of(count, strength, METHOD.knob)),
            jnp.int32(share_of(count, config.self_replace, "self_replace")),
            guided=scale is not None,
            finest=config.finest,
            place=bool(words.place.any()),
        )
        return drawn[1:]

    return same_for_every_seed(draw, strengths, seeds)


def refuses(cascade: Cascade) -> str | None:
    """See `Method.refuses`."""
    if not attention.cross_sites(cascade.stages[0]):
        return f"{cascade.name} reads its text by no attention"
    return None


def _cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    del config
    count = sampling.steps[0]
    share_of(count, strength, METHOD.knob)  # any share costs the same
    return Cost(count, count * (2 if sampling.guidance[0] is None else 4))


METHOD = Method(
    name="prompt_to_prompt",
    title="Prompt-to-prompt",
    paper="Hertz et al. 2022, arXiv:2208.01626",
    summary="draws the picture again beside its edit, which keeps the attention of the source text",
    needs=frozenset({"source text", "words", "attention"}),
    config=Config,
    knob="cross_replace",
    strengths=tuple(round(1 - 0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=_cost,
    refuses=refuses,
)
