"""LEDITS++: few steps, concepts alone, each confined to where the model reads it.

Brack et al. 2024, arXiv:2311.16711, section 3.

    fit:     edit-friendly noise maps for the second-order solver SDE-DPM-Solver++(2M): 20-50 steps
    render:  e = e_null + sum_j g_j,  g_j = s_j psi_j M1_j M2_j        psi_j of `semantic_guidance`
             M1_j: where pixels attend to the concept's words, the upper 1 - lambda_j
             M2_j: where |g_j|, summed over channels, is in its upper 1 - lambda_j

While much noise is left (t above 4/5 of the way) M1 works alone. There is no target text in the
base stage; stages behind it draw the edited picture larger under the target text. Where text and
pixels share one softmax (Imagen, DeepFloyd IF) M1 reads the text's part of it.

lambda is the share of the picture that is left alone, whatever its size: on the small grids of the
Flatland models the usual 0.9 leaves M1 six cells of 8 x 8, and both masks together next to nothing;
0.5 suits them. M1 is the sum over a concept's words, so an article, which those models read
everywhere but where the subject is, moves it away: "glasses", not "a pair of glasses".
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade, Cond, Extra, Stage
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion import inversion as loops
from imagic_jax.diffusion.inversion import Inversion, StepDenoiser
from imagic_jax.diffusion.prediction import Prediction, with_eps_moved
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.editors import attention, ddpm_inversion
from imagic_jax.editors.contracts import (
    Concept,
    Cost,
    Inputs,
    Method,
    Pictures,
    first_step,
    same_for_every_seed,
)
from imagic_jax.editors.implicit_masks import Masks, confined, reading
from imagic_jax.editors.semantic_guidance import directions, hear, numbers, rows
from imagic_jax.errors import UserError
from imagic_jax.typing import Params

#: Of the way to noise: above it M1 works alone.
ATTENTION_ALONE = 0.8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The inversion, where the edit begins, and the masks.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1; the authors leave out 0.15.
        source_guidance: scale of the source text while inverting, where there is one.
        attention_mask, noise_mask: whether M1 and M2 are used.
    """

    strength: float = 0.85
    source_guidance: float = 3.5
    attention_mask: bool = True
    noise_mask: bool = True


def concept_denoiser(
    stage: Stage,
    params: Params,
    null: Cond,
    concepts: Concept,
    words: Float[Array, "j l"],
    masks: Masks,
    first: Int[Array, ""],
) -> StepDenoiser:
    """The prediction with concepts in it, for one picture; no state.

    Args:
        stage, params: the base.
        null: the empty text, batch of 1.
        concepts: `semantic_guidance.numbers`.
        words: 1 at each concept's own tokens.
        masks: see `Masks`.
        first: the first step that is done; warm-up counts from there.
    """
    conds, count = rows(null, None, concepts, 1), 1 + len(words)
    eye = reading(stage, words)
    high = ATTENTION_ALONE * stage.schedule.num_train_timesteps

    def denoise(x: Array, level: Grid, i: Array, state: None) -> tuple[Prediction, None]:
        many = jnp.concatenate([x] * count)
        p, aux = stage.predict(params, many, level.t, conds, Extra(), eye)
        read: Any = sum(attention.handed_out(aux, "read").values())
        heard = hear(p, 1, False)
        g = directions(heard.empty.eps, heard.concepts, concepts)
        g = confined(g, read, concepts.threshold, level.t > high, masks)
        step = i - first
        awake = (step >= concepts.warmup) & (step < concepts.cooldown)
        weight = jnp.where(awake, jnp.maximum(concepts.weight, 0), 0).astype(g.dtype)
        shift = jnp.tensordot(weight, g, axes=1)
        return with_eps_moved(heard.empty, shift, level.abar, level.one_minus_abar), state

    return denoise


@functools.partial(jax.jit, static_argnames=("stage",))
def edit(
    stage: Stage,
    params: Params,
    found: Inversion,
    null: Cond,
    concepts: Concept,
    words: Float[Array, "j l"],
    masks: Masks,
    levels: Grid,
    first: Int[Array, ""],
) -> Float[Array, "1 s s 3"]:
    """The picture drawn from step `first` on with its noise maps and the concepts."""
    denoise = concept_denoiser(stage, params, null, concepts, words, masks, first)
    drawn = loops.ddpm_walk(denoise, stage.schedule, found, levels, first, jnp.bool(False))
    return stage.finish(params, drawn.latents[-1])


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`. The authors give no source text."""
    args = (inputs, config.source_guidance, sampling, key)
    return ddpm_inversion.invert(cascade, params, *args, second_order=True)


def words_of(concepts: Sequence[Concept]) -> Float[np.ndarray, "j l"]:
    """1 at each concept's own tokens; at all of them where it does not say."""
    return np.concatenate(
        [
            np.ones((1, c.cond.states.shape[1]), np.float32)
            if c.tokens is None
            else np.asarray(c.tokens, np.float32)
            for c in concepts
        ]
    )


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
    """See `Method.render`. A mask confines all concepts besides."""
    if not inputs.concepts:
        raise UserError(f"{METHOD.name} needs a concept to add or to remove (--concept)")
    stage, steps = cascade.stages[0], sampling.steps[0]
    given = jnp.ones((1, 1, 1, 1)) if inputs.mask is None else stage.mask(inputs.mask)
    masks = Masks(jnp.bool(config.attention_mask), jnp.bool(config.noise_mask), given)

    def draw(strength: float) -> Array:
        return edit(
            stage,
            params["stages"][0],
            fit,
            inputs.null[0],
            numbers(inputs.concepts),
            jnp.asarray(words_of(inputs.concepts)),
            masks,
            grid(stage.schedule, steps),
            jnp.int32(first_step(steps, strength)),
        )

    return same_for_every_seed(draw, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`, with one concept; each other one adds a row to every step."""
    del config
    steps = sampling.steps[0]
    return Cost(steps, 2 * (steps - first_step(steps, strength)))


def refuses(cascade: Cascade) -> str | None:
    """See `Method.refuses`."""
    if attention.cross_sites(cascade.stages[0]):
        return None
    return f"the base stage of {cascade.name} has no attention from pixels to text"


METHOD = Method(
    name="ledits_pp",
    title="LEDITS++",
    paper="Brack et al. 2024, arXiv:2311.16711",
    summary="keeps the picture in noise maps and changes it where the model reads the concepts",
    needs=frozenset({"concepts", "attention"}),
    takes=frozenset({"source text", "mask"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
    refuses=refuses,
)
