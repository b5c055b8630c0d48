"""Blended Diffusion: CLIP guides an unconditional model inside a mask; the rest stays.

Avrahami, Lischinski & Fried 2022, arXiv:2111.14818, algorithm 2. With x the picture, m the mask:

    x_t = q(x, t)                                    at the level that `strength` names
    L = w_clip D_CLIP(views of m x0hat, text) + w_range |x0hat outside [-1, 1]|^2
        + w_background |(1 - m)(x0hat - x)|^2
    x_fg ~ N(mu - Sigma grad L, Sigma)               x_bg = q(x, t)
    x_{t-1} = m x_fg + (1 - m) x_bg
    at the end the picture itself outside m; of several candidates the one that CLIP likes best

Algorithm 1, local CLIP-guided diffusion, is the same without x_bg and without the last line, kept
near the picture by w_background alone. A model that reads text is given the empty one.

What else the paper does is this call with other inputs: scribbles painted on the picture under the
mask with a strength of about 0.6; another background, by the mask turned round (`background`); a
larger picture, by a shifted canvas (`extrapolation`); several predictions, by several seeds.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage, repeat
from imagic_jax.backbones.generate import Sampling, denoiser
from imagic_jax.backbones.pixels import resize
from imagic_jax.diffusion import sampling as loops
from imagic_jax.diffusion import steps
from imagic_jax.diffusion.inversion import row
from imagic_jax.diffusion.prediction import Prediction, with_eps_moved
from imagic_jax.diffusion.sampling import Denoiser, Sampler
from imagic_jax.diffusion.schedule import Grid, add_noise, padded_grid
from imagic_jax.diffusion.thresholding import limited
from imagic_jax.editors import contracts, ranking
from imagic_jax.editors.contracts import (
    Cost,
    Inputs,
    Method,
    Pictures,
    clip_of,
    first_step,
    in_batches,
    mask_of,
    no_fit,
)
from imagic_jax.errors import UserError
from imagic_jax.metrics.clip_guidance import Reader, distance_of_views
from imagic_jax.typing import Params

Side = Literal["left", "right", "top", "bottom"]


class Weights(NamedTuple):
    """Of the loss, traced. `mix` is the share of x_t in what the losses see at full noise."""

    clip: Float[Array, ""] | float = 1000.0
    range: Float[Array, ""] | float = 50.0
    background: Float[Array, ""] | float = 0.0
    mix: Float[Array, ""] | float = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How it is drawn.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1 (75 of 100 in the paper).
        clip, range, background: weights of the losses, those of the published code.
        mix: 1 lets the losses see x0hat sqrt(1 - abar) + x_t (1 - sqrt(1 - abar)), as the
            published code does; 0 x0hat itself, as the paper writes.
        views: the picture and its random warps that CLIP sees at each step (16 in the paper).
        sampler: "ddpm" is the paper's; with "ddim" the gradient moves eps.
        background_level: the noise of what is put around the mask: "t", that of the level before
            the step (the paper's algorithm), or "prev", that of the level where the step lands.
        candidates: pictures drawn for each seed, of which CLIP keeps the best (64 in the paper).
    """

    strength: float = 0.75
    clip: float = 1000.0
    range: float = 50.0
    background: float = 0.0
    mix: float = 1.0
    views: int = 8
    sampler: Sampler = "ddpm"
    background_level: Literal["t", "prev"] = "t"
    candidates: int = 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class LocalConfig(Config):
    """Algorithm 1: `background` is what keeps the picture (the paper compares at 1000)."""

    background: float = 1000.0


class Guide(NamedTuple):
    """What the loss compares with: arrays alone, besides the static `Reader`."""

    clip: Params
    text: Float[Array, "1 p"]
    image: Float[Array, "1 s s 3"]  # of the stage's size
    mask: Float[Array, "1 s s 1"]
    weights: Weights


def loss(
    stage: Stage,
    params: Params,
    reader: Reader,
    denoise: Denoiser,
    guide: Guide,
    views: int,
    x_t: Array,
    level: Grid,
    keys: Key[Array, " b"],
) -> tuple[Float[Array, ""], Prediction]:
    """L summed over the batch, and the prediction that it was worked out from."""
    p, weights = denoise(x_t, level.t), guide.weights
    share = weights.mix * (1 - jnp.sqrt(level.one_minus_abar))
    seen = stage.picture(params, p.x0 + share * (x_t - p.x0))
    clean = stage.picture(params, p.x0)
    far = distance_of_views(reader, guide.clip, guide.text, seen * guide.mask, keys, views)
    outside = jnp.square(clean - jnp.clip(clean, -1.0, 1.0)).mean(axis=(1, 2, 3))
    moved = jnp.square((seen - guide.image) * (1 - guide.mask)).mean(axis=(1, 2, 3))
    return (weights.clip * far + weights.range * outside + weights.background * moved).sum(), p


@functools.partial(
    jax.jit, static_argnames=("stage", "reader", "views", "sampler", "blend", "background_level")
)
def edit(
    stage: Stage,
    params: Params,
    reader: Reader,
    guide: Guide,
    null: Cond,
    keys: Key[Array, " b"],
    levels: Grid,
    num_steps: Int[Array, ""],
    *,
    views: int,
    sampler: Sampler,
    blend: bool,
    background_level: Literal["t", "prev"],
) -> Float[Array, "b s s 3"]:
    """One batch of pictures in [-1, 1], before the picture is put back around the mask.

    Args:
        stage, params: the base.
        reader: the CLIP model.
        guide: its parameters, the text, picture and mask, the weights.
        null: the empty text, batch of 1.
        keys: (b,) one per picture; the same noise as in `generate.draw`.
        levels, num_steps: `padded_grid` with a start.
        views, sampler, background_level: see `Config`.
        blend: algorithm 2; else algorithm 1.
    """
    batch = keys.shape[0]
    x0, inside = stage.prepare(params, guide.image), stage.mask(guide.mask)
    denoise = denoiser(stage, params, repeat(null, batch), None, Extra(), jnp.float32(1.0))
    score = functools.partial(loss, stage, params, reader, denoise, guide, views)
    step_keys, background_keys, view_keys = (
        jax.vmap(jax.random.fold_in, (0, None))(keys, n) for n in (2, 3, 4)
    )

    def body(i: Array, x: Array) -> Array:
        level = row(levels, i)
        own = jax.vmap(jax.random.fold_in, (0, None))(view_keys, i)
        uphill, p = jax.grad(score, has_aux=True)(x, level, own)
        x_fg = guided_step(stage, p, -uphill, x, level, step_keys, i, sampler)
        if not blend:
            return x_fg
        noisy = level if background_level == "t" else _landing(level)
        noise = loops.normal(background_keys, i, x0.shape[1:])
        x_bg = jnp.sqrt(noisy.abar) * x0 + jnp.sqrt(noisy.one_minus_abar) * noise
        return jnp.where(inside > 0, x_fg, x_bg)

    start = jnp.broadcast_to(levels.t[0], (batch,))
    x = add_noise(stage.schedule, x0, loops.normal(keys, 0, x0.shape[1:]), start)
    x = jax.lax.fori_loop(0, num_steps, body, x)
    return stage.finish(params, jnp.where(num_steps > 0, x, x0))


def _landing(level: Grid) -> Grid:
    return level._replace(abar=level.abar_next, one_minus_abar=level.one_minus_abar_next)


def guided_step(
    stage: Stage,
    p: Prediction,
    gradient: Array,
    x: Array,
    level: Grid,
    keys: Key[Array, " b"],
    index: Array,
    sampler: Sampler,
) -> Array:
    """A sampling step towards `gradient` of a log-probability (Dhariwal & Nichol 2021).

    DDPM: the mean moves by Sigma times the gradient; DDIM: eps by -sqrt(1 - abar) times it.
    """
    schedule, bounds = stage.schedule, (level.abar, level.one_minus_abar)
    if sampler == "ddim":
        p = with_eps_moved(p, -jnp.sqrt(level.one_minus_abar) * gradient, *bounds)
    p = limited(schedule, p, x, *bounds)
    landed = loops.step(schedule, p, x, level, keys, index, sampler)
    if sampler == "ddim":
        return landed
    learned = schedule.variance_type == "learned_range"
    return landed + steps.ddpm_posterior(p, x, level, learned).variance * gradient


def check(config: Config, sampling: Sampling, clip: bool) -> None:
    """See `Method.check`."""
    del sampling
    ranking.check(config.candidates, clip)
    if config.views < 1:
        raise UserError(f"CLIP needs at least 1 view of the picture, got {config.views}")


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
    blend = not isinstance(config, LocalConfig)
    name = (METHOD if blend else LOCAL).name
    mask, scorer = mask_of(inputs, name), clip_of(inputs, name)
    check(config, sampling, True)
    stage, total = cascade.stages[0], sampling.steps[0]
    whole = contracts.mask_at((mask > 0).astype(mask.dtype), stage.size)
    guide = Guide(scorer.params, scorer.text, resize(inputs.image, stage.size), whole, _of(config))
    rows = []
    for strength in strengths:
        levels, num_steps = padded_grid(stage.schedule, total, first_step(total, strength))
        draw = functools.partial(
            edit,
            stage,
            params["stages"][0],
            scorer.reader,
            guide,
            inputs.null[0],
            levels=levels,
            num_steps=num_steps,
            views=config.views,
            sampler=config.sampler,
            blend=blend,
            background_level=config.background_level,
        )
        drawn = in_batches(
            lambda keys, draw=draw: draw(keys=keys),
            ranking.candidate_seeds(seeds, config.candidates),
            sampling.batch,
        )
        if blend:
            drawn = contracts.paste(drawn, inputs.image, whole)
        rows.append(ranking.best(drawn, config.candidates, whole, scorer))
    return np.stack(rows)


def _of(config: Config) -> Weights:
    return Weights(*(jnp.float32(getattr(config, name)) for name in Weights._fields))


def background(inputs: Inputs) -> Inputs:
    """The mask turned round: what it covers stays, and what is around it is drawn."""
    return inputs._replace(mask=1 - mask_of(inputs, METHOD.name))


def extrapolation(inputs: Inputs, share: float = 0.25, side: Side = "right") -> Inputs:
    """The canvas moved by `share` of its width, and the strip beyond the old border to be drawn.

    The strip begins as the picture's reflection. To go on, give the result as the next picture.

    Args:
        inputs: their `image` is moved, their `mask` replaced.
        share: of the width, above 0 and at most 0.5.
        side: where the picture grows.

    Raises:
        UserError: the strip would be wider than what it reflects.
    """
    if not 0 < share <= 0.5:
        raise UserError(f"a picture grows by a share of its width up to 0.5, got {share:g}")
    axis = 1 if side in ("top", "bottom") else 2
    far = side in ("right", "bottom")
    size = inputs.image.shape[axis]
    wide = max(1, round(share * size))
    at = np.arange(size) + (wide if far else -wide)  # where each pixel lay before
    reflected = np.where(at >= size, 2 * size - 1 - at, np.where(at < 0, -1 - at, at))
    new = ((at >= size) | (at < 0)).astype(np.float32)
    strip = new[None, :, None, None] if axis == 1 else new[None, None, :, None]
    mask = jnp.broadcast_to(jnp.asarray(strip), (*inputs.image.shape[:3], 1))
    return inputs._replace(image=jnp.take(inputs.image, reflected, axis=axis), mask=mask)


def _cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    done = sampling.steps[0] - first_step(sampling.steps[0], strength)
    return Cost(0, 3 * done * config.candidates)


_STRENGTHS = tuple(round(0.05 + 0.09 * i, 2) for i in range(11))
METHOD = Method(
    name="blended",
    title="Blended Diffusion",
    paper="Avrahami et al. 2022, arXiv:2111.14818",
    summary="CLIP guides the model, without text, inside a mask; around it the picture stays",
    needs=frozenset({"mask", "clip", "gradients"}),
    config=Config,
    knob="strength",
    strengths=_STRENGTHS,
    fit=no_fit,
    render=render,
    cost=_cost,
    check=check,
)
LOCAL = Method(
    name="local_clip_guided",
    title="Local CLIP-guided diffusion",
    paper="Avrahami et al. 2022, arXiv:2111.14818, algorithm 1",
    summary="CLIP guides the model inside a mask; a loss alone keeps what is around it",
    needs=frozenset({"mask", "clip", "gradients"}),
    config=LocalConfig,
    knob="strength",
    strengths=_STRENGTHS,
    fit=no_fit,
    render=render,
    cost=_cost,
    check=check,
    keeps_outside=False,
)
