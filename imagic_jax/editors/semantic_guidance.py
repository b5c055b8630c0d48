"""Semantic guidance: concepts added to the noise estimate where they speak loudest.

Brack et al. 2023, arXiv:2301.12247, equations 4-10, with e = e_null + s_g (e_text - e_null) + S:

    psi_j = +-(e_concept_j - e_null)                     the direction towards, or away from
    g_j   = s_j psi_j where |s_j psi_j| is in the upper 1 - lambda_j of its channel, else 0
    S     = sum_j w_j g_j + s_m nu                       once every concept is past its warm-up
    nu    <- beta nu + (1 - beta) S                      momentum; kept from the first step on

All texts of a step are rows of one evaluation: the empty one, the target's, then each concept's.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from imagic_jax.backbones.contracts import Cond, Extra, Stage, repeat, stack
from imagic_jax.diffusion.guidance import guide
from imagic_jax.diffusion.inversion import StepDenoiser
from imagic_jax.diffusion.prediction import Prediction, with_eps_moved
from imagic_jax.diffusion.schedule import Grid
from imagic_jax.editors.contracts import Concept
from imagic_jax.typing import Params

#: What is done while some concepts are past their warm-up and others are not: the mean of those
#: that are, without momentum (the authors' code), or plainly their sum.
Partial = Literal["mean", "sum"]


class Momentum(NamedTuple):
    """s_m and beta, traced."""

    scale: Float[Array, ""]
    beta: Float[Array, ""]


def loudest(
    g: Float[Array, "j b h w c"], threshold: Float[Array, " j"]
) -> Float[Array, "j b h w c"]:
    """g where its size is in the upper 1 - threshold of the positions of its channel, else 0."""

    def one(g: Array, threshold: Array) -> Array:
        size = jnp.abs(g)
        least = jnp.quantile(size, threshold, axis=(-3, -2), keepdims=True)
        return jnp.where(size >= least, g, 0)

    return jax.vmap(one)(g, threshold)


def directions(
    empty: Float[Array, "b h w c"], told: Float[Array, "j b h w c"], concepts: Concept
) -> Float[Array, "j b h w c"]:
    """s_j psi_j, from eps under the empty text and under each concept."""
    factor = (concepts.sign * concepts.scale).astype(told.dtype)
    return factor[:, None, None, None, None] * (told - empty)


def combine(
    g: Float[Array, "j b h w c"],
    concepts: Concept,
    step: Int[Array, ""],
    nu: Float[Array, "b h w c"],
    momentum: Momentum,
    partial: Partial,
) -> tuple[Float[Array, "b h w c"], Float[Array, "b h w c"]]:
    """(what is added to eps, the momentum after this step).

    Args:
        g: `loudest` of the directions.
        concepts: the numbers of all concepts, (j,) each; see `numbers`.
        step: counted from the first step that is done.
        nu: the momentum so far, zeros at first.
        momentum, partial: see `Config`.
    """
    awake = step >= concepts.warmup
    weight = jnp.where(step >= concepts.cooldown, 0, jnp.maximum(concepts.weight, 0))

    def mixed(share: Float[Array, " j"]) -> Float[Array, "b h w c"]:
        return jnp.tensordot(share.astype(g.dtype), g, axes=1)

    heard = weight * awake if partial == "sum" else weight
    whole = mixed(heard) + momentum.scale * nu
    nu = momentum.beta * nu + (1 - momentum.beta) * whole
    if partial == "sum":
        return whole, nu
    total = jnp.sum(weight * awake)
    some = mixed(weight * awake / jnp.where(total > 0, total, 1))
    return jnp.where(jnp.all(awake), whole, some), nu


def numbers(concepts: Sequence[Concept]) -> Concept:
    """All concepts as one: texts stacked on the batch axis, numbers as (j,) arrays.

    Of one type whatever they were given as, so that another value compiles nothing.
    """

    def column(name: str, dtype: Any) -> Num[np.ndarray, " j"]:
        return np.array([getattr(c, name) for c in concepts], dtype)

    kinds = dict.fromkeys(("sign", "scale", "threshold", "weight"), np.float32)
    kinds |= dict.fromkeys(("warmup", "cooldown"), np.int32)
    values: dict[str, Any] = {k: column(k, d) for k, d in kinds.items()}
    return Concept(stack(*(c.cond for c in concepts)), **values)


def momentum_of(scale: float, beta: float) -> Momentum:
    """The momentum's numbers, traced."""
    return Momentum(jnp.float32(scale), jnp.float32(beta))


class Voices(NamedTuple):
    """The predictions at one x_t, and the texts' share in them."""

    empty: Prediction
    text: Prediction | None
    concepts: Float[Array, "j b h w c"]  # eps


def rows(null: Cond, text: Cond | None, concepts: Concept, batch: int) -> Cond:
    """The texts of one evaluation: empty, maybe the target's, then each concept's, `batch` each."""
    texts = [null] if text is None else [null, text]
    conds = [repeat(c, batch) for c in texts]
    each = jax.tree.map(lambda a: jnp.repeat(a, batch, axis=0), concepts.cond)
    return stack(*conds, each)


def hear(p: Prediction, batch: int, told: bool) -> Voices:
    """One evaluation taken apart again."""

    def part(k: int) -> Prediction:
        return jax.tree.map(lambda a: a[k * batch : (k + 1) * batch], p)

    others = p.eps[(1 + told) * batch :]
    return Voices(part(0), part(1) if told else None, others.reshape(-1, batch, *p.eps.shape[1:]))


def semantic_denoiser(
    stage: Stage,
    params: Params,
    null: Cond,
    text: Cond | None,
    concepts: Concept,
    guidance: Float[Array, ""],
    momentum: Momentum,
    first: Int[Array, ""],
    partial: Partial,
    batch: int,
) -> StepDenoiser:
    """The guided prediction of a stage with concepts in it; its state is the momentum.

    Args:
        stage, params: the base.
        null, text: the empty text and the target's, batch of 1; without a target's the concepts
            are added to the empty text's prediction.
        concepts: `numbers`.
        guidance: scale of the text.
        momentum, partial: see `Config`.
        first: the first step that is done; warm-up counts from there.
        batch: pictures per evaluation.
    """
    conds = rows(null, text, concepts, batch)
    count = 1 + (text is not None) + len(concepts.sign)

    def denoise(x: Array, level: Grid, i: Array, nu: Array) -> tuple[Prediction, Array]:
        p, _ = stage.predict(params, jnp.concatenate([x] * count), level.t, conds, Extra())
        heard = hear(p, batch, text is not None)
        base = heard.empty if heard.text is None else guide(heard.empty, heard.text, guidance)
        g = loudest(directions(heard.empty.eps, heard.concepts, concepts), concepts.threshold)
        shift, nu = combine(g, concepts, i - first, nu, momentum, partial)
        return with_eps_moved(base, shift, level.abar, level.one_minus_abar), nu

    return denoise
