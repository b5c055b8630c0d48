"""Negative-prompt inversion: the source text takes the place of the empty one.

Miyake et al. 2023, arXiv:2305.16807, algorithm 1: what null-text inversion optimises for is close
to the source text itself, so nothing is optimised.

    fit:     DDIM inversion under the source text
    render:  the sampler under the target text, guided away from the source text

Where the target is the source, guidance of any scale does nothing and the picture comes back as it
does without guidance.
"""

import dataclasses
from collections.abc import Sequence

from jaxtyping import PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade, Cond
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion.inversion import Convention, Inversion
from imagic_jax.editors.contracts import Cost, Inputs, Method, Pictures, first_step, source_of
from imagic_jax.editors.ddim_inversion import fit_under, render_under
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How far up the edit begins, and what guidance leads away from.

    Attributes:
        strength: the share of the sampling steps that are done, 0..1.
        convention: of the DDIM inversion, see `inversion.asked_timesteps`.
        emptiness: 0 leads away from the source text (the paper), 1 from the empty text (plain DDIM
            inversion), in between from a mix of their states.
    """

    strength: float = 1.0
    convention: Convention = "destination"
    emptiness: float = 0.0


def mixed(source: Cond, null: Cond, emptiness: float) -> Cond:
    """The text that guidance leads away from."""
    if emptiness == 0.0:
        return source
    states = (1 - emptiness) * source.states + emptiness * null.states
    return source._replace(states=states.astype(source.states.dtype))


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`."""
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
    """See `Method.render`."""
    source = source_of(inputs, METHOD.name)[0]
    away = mixed(source, inputs.null[0], config.emptiness)
    cond, scale = inputs.target[0], sampling.guidance[0]
    return render_under(cascade, params, fit, cond, away, scale, sampling, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`."""
    del config
    steps, rows = sampling.steps[0], 1 if sampling.guidance[0] is None else 2
    return Cost(steps, rows * (steps - first_step(steps, strength)))


METHOD = Method(
    name="negative_prompt",
    title="Negative-prompt inversion",
    paper="Miyake et al. 2023, arXiv:2305.16807",
    summary="inverts the picture and guides from its own text to the target text",
    needs=frozenset({"source text"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
)
