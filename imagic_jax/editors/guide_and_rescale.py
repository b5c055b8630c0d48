"""Guide-and-Rescale: self-attention and features of the source guide the edit, no stronger than
the text does.

Titov et al. 2024, arXiv:2409.01322, algorithm 1. With z*_t the picture's DDIM inversion under the
source text y, at each of the first steps:

    e0, et = eps(z, t, null), eps(z, t, target)          cfg = w (et - e0)
    A*, F* = self-attention and features of eps(z*_t, t, y)
    A, F   = those of eps(z, t, y)
    g = v_self sum over layers of mean (A - A*)^2 + v_feat d(F, F*)
    rho = |dg/dz| / |cfg|                                gamma = clip(rho, low, high) / rho
    eps = e0 + cfg + gamma dg/dz                         (eps enters the step with a minus)

The norms are plain, not squared as printed: only so is |gamma dg/dz| / |cfg| inside [low, high].

Only the row of y on z is differentiated, and no map of attention leaves its layer (`guiders`, which
says as well how added-KV attention is read). The plain steps at the end are a loop of their own,
without the gradient.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from imagic_jax.backbones.contracts import (
    Cascade,
    Cond,
    Extra,
    Stage,
    stack,
)
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion import steps
from imagic_jax.diffusion.guidance import guide
from imagic_jax.diffusion.inversion import Convention, Inversion, row
from imagic_jax.diffusion.prediction import Prediction, with_eps_moved
from imagic_jax.diffusion.schedule import Grid, grid
from imagic_jax.diffusion.thresholding import limited
from imagic_jax.editors import attention
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
from imagic_jax.editors.guiders import Compared, Features, energy, reading
from imagic_jax.errors import UserError
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """The guiders. Defaults are the paper's for local edits; for styles see `STYLE`.

    Attributes:
        guided: the share of the steps, 0..1, from the noisiest, that are guided (30 of 50 in the
            published configuration, 35 in the paper's text).
        self_weight, feature_weight: v_self and v_feat.
        low, high: bounds of the guiders' norm, as a factor of the norm of text guidance.
        features: "detail" compares the last level's output (mean absolute difference), "layout" the
            block of `attention.layout_block` (mean square), seen under the target text.
        layers: how many attention layers are compared, those on the coarsest grids first; 0
            compares all (16 in Stable Diffusion 1).
        convention: see `inversion.asked_timesteps`.
    """

    guided: float = 0.6
    self_weight: float = 300_000.0
    feature_weight: float = 500.0
    low: float = 0.33
    high: float = 3.0
    features: Features = "detail"
    layers: int = 0
    convention: Convention = "destination"


#: The paper's configuration for styles: one factor, half of the steps, the layout's features.
STYLE = Config(
    guided=0.5, self_weight=100_000.0, feature_weight=2.5, low=1.5, high=1.5, features="layout"
)


class Guiders(NamedTuple):
    """Traced numbers of a `Config`, and the scale of text guidance."""

    self_weight: Float[Array, ""]
    feature_weight: Float[Array, ""]
    low: Float[Array, ""]
    high: Float[Array, ""]
    scale: Float[Array, ""]


def guided_step(
    stage: Stage,
    params: Params,
    how: Compared,
    guiders: Guiders,
    texts: tuple[Cond, Cond, Cond],
    z: Array,
    z_source: Array,
    level: Grid,
) -> tuple[Array, Float[Array, ""]]:
    """One guided step from z at `level`: the next z, and |gamma G| / |cfg|.

    `texts` are source, target and null, batch of 1 each.
    """
    source, target, null = texts
    read = reading(stage, how)
    rows = jnp.concatenate([z, z, z_source])
    p, aux = stage.predict(params, rows, level.t, stack(null, target, source), Extra(), read)
    empty, told = (jax.tree.map(lambda a, i=i: a[i : i + 1], p) for i in (0, 1))
    queries, keys = (attention.handed_out(aux, name) for name in ("queries", "keys"))
    (features,) = attention.handed_out(aux, "features").values()
    kept = {path: (queries[path], keys[path]) for path in queries}, features
    weights = guiders.self_weight, guiders.feature_weight
    uphill = jax.grad(energy, argnums=7)(
        stage, params, how, weights, kept, source, target, z, level.t
    )
    # the first latent is the source's own: what is left there is rounding, and would be blown up
    same = jnp.all(z == z_source) if how.features == "detail" else False
    uphill = jnp.where(same, 0.0, uphill)
    text_guidance = guiders.scale * (told.eps - empty.eps)
    moved, ratio = rescaled(uphill, text_guidance, guiders.low, guiders.high)
    p = with_eps_moved(guide(empty, told, guiders.scale), moved, level.abar, level.one_minus_abar)
    return _down(stage, p, z, level), ratio


def rescaled(
    gradient: Array, text_guidance: Array, low: Float[Array, ""], high: Float[Array, ""]
) -> tuple[Array, Float[Array, ""]]:
    """gamma G, and its norm as a factor of text guidance's; G as it is where either is zero."""
    length, of_text = jnp.linalg.norm(gradient), jnp.linalg.norm(text_guidance)
    usable = (length > 0) & (of_text > 0)
    rho = length / jnp.where(usable, of_text, 1.0)
    gamma = jnp.where(usable, jnp.clip(rho, low, high) / jnp.where(usable, rho, 1.0), 1.0)
    return gamma * gradient, gamma * rho


def _down(stage: Stage, p: Prediction, z: Array, level: Grid) -> Array:
    p = limited(stage.schedule, p, z, level.abar, level.one_minus_abar)
    return steps.ddim(p, level)


@functools.partial(jax.jit, static_argnames=("stage", "how"))
def edit(
    stage: Stage,
    params: Params,
    found: Inversion,
    texts: tuple[Cond, Cond, Cond],
    guiders: Guiders,
    levels: Grid,
    guided_steps: Int[Array, ""],
    *,
    how: Compared,
) -> tuple[Float[Array, "1 s s 3"], Float[Array, " n"]]:
    """The edit in [-1, 1], and |gamma G| / |cfg| of every guided step (0 behind them).

    Args:
        stage, params: the base.
        found: the picture's inversion on `levels`, under the source text.
        texts: source, target and null, batch of 1 each.
        guiders: the traced numbers.
        levels: `schedule.grid`.
        guided_steps: how many steps are guided.
        how: what is compared.
    """
    _, target, null = texts

    def guided(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        z, ratios = carry
        args = (texts, z, found.latents[i], row(levels, i))
        z, ratio = guided_step(stage, params, how, guiders, *args)
        return z, ratios.at[i].set(ratio)

    def plain(i: Array, z: Array) -> Array:
        level = row(levels, i)
        p, _ = stage.predict(params, jnp.concatenate([z, z]), level.t, stack(null, target), Extra())
        empty, told = (jax.tree.map(lambda a, j=j: a[j : j + 1], p) for j in (0, 1))
        return _down(stage, guide(empty, told, guiders.scale), z, level)

    count = len(levels.t)
    start = (found.latents[0], jnp.zeros(count))
    z, ratios = jax.lax.fori_loop(0, guided_steps, guided, start)
    z = jax.lax.fori_loop(guided_steps, count, plain, z)
    return stage.finish(params, z), ratios


def _compared(config: Config) -> Compared:
    return Compared(config.features, config.layers)


def _traced(config: Config, scale: float) -> Guiders:
    return Guiders(
        *(
            jnp.float32(v)
            for v in (
                config.self_weight, config.feature_weight, config.low, config.high, scale,
            )
        )
    )  # fmt: skip


def programs(
    cascade: Cascade,
    params: Params,
    cond: Cond,
    config: Config,
    sampling: Sampling,
    place: Callable[[Any], Any] = lambda arguments: arguments,
) -> dict[str, Callable[[], Any]]:
    """The compiled program of an edit, as a thunk that lowers it: for `runtime.ahead`, and to ask
    how much memory it takes. `params` and `cond` (batch of 1) may be shapes; `place` as in
    `generate.drawing_programs`.
    """
    stage, count = cascade.stages[0], sampling.steps[0]

    def lower() -> Any:
        shapes = functools.partial(jax.tree.map, lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype))
        latents: Any = jax.ShapeDtypeStruct((count + 1, *stage.sample_shape(1)), jnp.float32)
        arguments = (
            shapes(params["stages"][0]),
            Inversion(latents),
            (shapes(cond),) * 3,
            shapes(_traced(config, 1.0)),
            shapes(grid(stage.schedule, count)),
            jax.ShapeDtypeStruct((), jnp.int32),
        )
        return edit.lower(stage, *place(arguments), how=_compared(config))

    return {f"edit {stage.name}": lower}


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`: DDIM inversion under the source text."""
    del key
    text = source_of(inputs, METHOD.name)[0]
    return fit_under(cascade, params, inputs, text, config.convention, sampling)


def check(config: Config, sampling: Sampling, clip: bool = False) -> None:
    """See `Method.check`."""
    del clip
    if sampling.guidance[0] is None:
        raise UserError(
            f"{METHOD.name} is measured by text guidance: give the base stage a guidance above 1"
        )
    if not 0 <= config.low <= config.high:
        raise UserError(
            f"the guiders' norm is kept between low and high, but low={config.low:g} and"
            f" high={config.high:g}"
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
    """See `Method.render`; the strengths are values of `guided`."""
    check(config, sampling)
    source, scale = source_of(inputs, METHOD.name)[0], sampling.guidance[0]
    stage, count = cascade.stages[0], sampling.steps[0]
    levels = grid(stage.schedule, count)

    def draw(strength: float) -> Array:
        picture, _ = edit(
            stage,
            params["stages"][0],
            fit,
            (source, inputs.target[0], inputs.null[0]),
            _traced(config, scale or 1.0),
            levels,
            jnp.int32(share_of(count, strength, METHOD.knob)),
            how=_compared(config),
        )
        return picture

    return same_for_every_seed(draw, strengths, seeds)


def _cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    count = sampling.steps[0]
    guided = share_of(count, strength, METHOD.knob)
    rows = 3 + (6 if config.features == "layout" else 3)
    return Cost(count, guided * rows + (count - guided) * 2)


METHOD = Method(
    name="guide_and_rescale",
    title="Guide-and-Rescale",
    paper="Titov et al. 2024, arXiv:2409.01322",
    summary="guides the edit by the source's self-attention and features, as strongly as the text",
    needs=frozenset({"source text", "gradients", "attention"}),
    config=Config,
    knob="guided",
    strengths=tuple(round(1 - 0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=_cost,
    check=check,
    refuses=attention.refuses,
)
