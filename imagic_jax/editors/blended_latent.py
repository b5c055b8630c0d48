"""Blended Latent Diffusion: text-guided drawing inside a mask, the rest kept at every step.

Avrahami, Fried & Lischinski 2023, arXiv:2206.02779. With z0 the picture's latent, m the mask:

    z_t = q(z0, t)                               at the level that `strength` names
    z_fg = one guided sampling step from z_t under the target text
    z_bg = q(z0, next t), at the last step z0 itself
    z = m z_fg + (1 - m) z_bg

The published order, blend and then denoise, is this chain without its last blend. Thin masks would
vanish on the latents' grid: every cell that the mask touches counts, and `shrinking` begins with
wider masks (section 4.3). The autoencoder loses detail: the picture outside the mask is put back
exactly, and `restore_steps` fits the decoder to it before (section 4.2), so that no seam is seen.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage, repeat
from imagic_jax.backbones.generate import Sampling, denoiser
from imagic_jax.backbones.pixels import resize
from imagic_jax.diffusion import sampling as loops
from imagic_jax.diffusion.sampling import Sampler
from imagic_jax.diffusion.schedule import Grid, add_noise, padded_grid
from imagic_jax.editors import contracts, ranking
from imagic_jax.editors.contracts import (
    Cost,
    Inputs,
    Method,
    Pictures,
    first_step,
    in_batches,
    mask_of,
    no_fit,
)
from imagic_jax.errors import UserError
from imagic_jax.typing import Params

BACKGROUND_WEIGHT = 100.0  # of the picture outside the mask when the decoder is fitted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How it is drawn.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1.
        shrinking: how many wider masks come before the mask itself, each for an equal share of the
            steps: 1, 2, .. cells wider (the paper's 3 for thin masks).
        candidates: pictures drawn for each seed, of which CLIP keeps the best.
        restore_steps: Adam steps that fit the decoder to each result, 75 in the published code; 0
            pastes alone. Read where there is a decoder.
        restore_rate: their learning rate.
    """

    strength: float = 0.75
    shrinking: int = 0
    candidates: int = 1
    restore_steps: int = 0
    restore_rate: float = 1e-4


class Restoring(NamedTuple):
    """The decoder's fitting, traced."""

    steps: Int[Array, ""]
    rate: Float[Array, ""]


@functools.partial(jax.jit, static_argnames=("stage", "guided", "sampler", "shrinking"))
def edit(
    stage: Stage,
    params: Params,
    image: Float[Array, "1 h w 3"],
    mask: Float[Array, "1 h w 1"],
    cond: Cond,
    null: Cond,
    keys: Key[Array, " b"],
    guidance: Float[Array, ""],
    levels: Grid,
    num_steps: Int[Array, ""],
    *,
    guided: bool,
    sampler: Sampler,
    shrinking: int,
) -> Float[Array, "b h2 w2 c"]:
    """One batch of latents; arguments as of `sdedit.edit`; `mask` is 1 where z may change."""
    batch = keys.shape[0]
    z0 = stage.prepare(params, image)
    masks = jnp.stack([stage.mask(mask, shrinking - i) for i in range(shrinking + 1)])
    start = jnp.broadcast_to(levels.t[0], (batch,))
    z = add_noise(stage.schedule, z0, loops.normal(keys, 0, z0.shape[1:]), start)
    empty = repeat(null, batch) if guided else None
    denoise = denoiser(stage, params, repeat(cond, batch), empty, Extra(), guidance)

    def blend(z_fg: Array, i: Array) -> Array:
        signal, noise = jnp.sqrt(levels.abar_next[i]), jnp.sqrt(levels.one_minus_abar_next[i])
        noised = signal * z0 + noise * loops.normal(background_keys, i, z0.shape[1:])
        z_bg = jnp.where(i == num_steps - 1, z0, noised)
        inside = masks[i * len(masks) // jnp.maximum(num_steps, 1)]
        return jnp.where(inside > 0, z_fg, z_bg)

    step_keys, background_keys = (jax.vmap(jax.random.fold_in, (0, None))(keys, n) for n in (2, 3))
    z = loops.sample(denoise, stage.schedule, z, levels, num_steps, step_keys, sampler, after=blend)
    return jnp.where(num_steps > 0, z, z0)


@functools.partial(jax.jit, static_argnums=0)
def decoded(stage: Stage, params: Params, z: Float[Array, "b h2 w2 c"]) -> Float[Array, "b s s 3"]:
    """Latents to pictures in [-1, 1], by the decoder as it is."""
    return stage.finish(params, z)


@functools.partial(jax.jit, static_argnums=0)
def restored(
    stage: Stage,
    params: Params,
    z: Float[Array, "b h2 w2 c"],
    image: Float[Array, "1 h w 3"],
    mask: Float[Array, "1 h w 1"],
    how: Restoring,
) -> Float[Array, "b s s 3"]:
    """Latents to pictures in [-1, 1], each by a decoder that is fitted to it.

    Minimises, over the parameters beside the UNet, with y the picture as decoded before:

        mean (D(z) - y)^2 m + BACKGROUND_WEIGHT mean (D(z) - x)^2 (1 - m)
    """
    decoder = {name: tree for name, tree in params.items() if name != "unet"}
    drawn = stage.finish(params, z)
    adam = optax.scale_by_adam()
    kept = resize(image, stage.size)
    inside = contracts.mask_at(mask, stage.size)

    def one(row: tuple[Array, Array]) -> Array:
        z, drawn = (a[None] for a in row)

        def loss(decoder: Params) -> Array:
            made = stage.picture({**params, **decoder}, z)
            edited = jnp.mean(jnp.square(made - drawn) * inside)
            return edited + BACKGROUND_WEIGHT * jnp.mean(jnp.square(made - kept) * (1 - inside))

        def step(_: Array, state: tuple) -> tuple:
            decoder, moments = state
            updates, moments = adam.update(jax.grad(loss)(decoder), moments)
            return jax.tree.map(lambda a, u: a - how.rate * u, decoder, updates), moments

        fitted, _ = jax.lax.fori_loop(0, how.steps, step, (decoder, adam.init(decoder)))
        return stage.finish({**params, **fitted}, z)[0]

    return jax.lax.map(one, (z, drawn))


def check(config: Config, sampling: Sampling, clip: bool) -> None:
    """See `Method.check`."""
    del sampling
    ranking.check(config.candidates, clip)
    if config.shrinking < 0:
        raise UserError(f"shrinking counts wider masks, 0 for none; got {config.shrinking}")


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
    mask = mask_of(inputs, METHOD.name)
    check(config, sampling, inputs.clip is not None)
    whole = (mask > 0).astype(mask.dtype)
    stage, scale, steps = cascade.stages[0], sampling.guidance[0], sampling.steps[0]
    finish = functools.partial(decoded, stage, params["stages"][0])
    if config.restore_steps and len(params["stages"][0]) > 1:  # pixels lose nothing
        how = Restoring(jnp.int32(config.restore_steps), jnp.float32(config.restore_rate))
        finish = functools.partial(
            restored, stage, params["stages"][0], image=inputs.image, mask=mask, how=how
        )
    rows = []
    for strength in strengths:
        levels, num_steps = padded_grid(stage.schedule, steps, first_step(steps, strength))
        draw = functools.partial(
            edit,
            stage,
            params["stages"][0],
            inputs.image,
            mask,
            inputs.target[0],
            inputs.null[0],
            guidance=jnp.float32(1.0 if scale is None else scale),
            levels=levels,
            num_steps=num_steps,
            guided=scale is not None,
            sampler=sampling.sampler,
            shrinking=config.shrinking,
        )
        drawn = in_batches(
            lambda keys, draw=draw: finish(draw(keys=keys)),
            ranking.candidate_seeds(seeds, config.candidates),
            sampling.batch,
        )
        drawn = contracts.paste(drawn, inputs.image, whole)
        rows.append(ranking.best(drawn, config.candidates, whole, inputs.clip))
    return np.stack(rows)


def _cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    done = sampling.steps[0] - first_step(sampling.steps[0], strength)
    return Cost(0, done * config.candidates * (1 if sampling.guidance[0] is None else 2))


METHOD = Method(
    name="blended_latent",
    title="Blended Latent Diffusion",
    paper="Avrahami et al. 2023, arXiv:2206.02779",
    summary="draws under the text inside a mask, and puts the noised picture around it every step",
    needs=frozenset({"mask"}),
    takes=frozenset({"clip"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.05 + 0.09 * i, 2) for i in range(11)),
    fit=no_fit,
    render=render,
    cost=_cost,
    check=check,
)
