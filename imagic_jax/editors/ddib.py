"""Dual diffusion implicit bridges: the picture's noise under one text is another text's picture.

Su et al. 2023, arXiv:2203.08382, algorithm 1, with two texts of one model in place of two models:

    x_T = ODESolve(x_0; source text, 0 -> T)
    y_0 = ODESolve(x_T; target text, T -> 0)

Both ways without guidance: only then does going there and back give the picture again.
"""

import dataclasses
from collections.abc import Sequence

from jaxtyping import PRNGKeyArray

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion.inversion import Convention, Inversion
from imagic_jax.editors.contracts import Cost, Inputs, Method, Pictures, first_step, source_of
from imagic_jax.editors.ddim_inversion import fit_under, render_under
from imagic_jax.typing import Params


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """How far the bridge goes, and how it is walked.

    Attributes:
        strength: the share of the sampling steps, 0..1; the paper goes all the way.
        convention: see `inversion.asked_timesteps`. The paper's code asks at the origin.
    """

    strength: float = 1.0
    convention: Convention = "destination"


def fit(
    cascade: Cascade,
    params: Params,
    inputs: Inputs,
    config: Config,
    sampling: Sampling,
    key: PRNGKeyArray,
) -> Inversion:
    """See `Method.fit`: the way up, under the source text."""
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
    """See `Method.render`: the way down, under the target text."""
    del config
    cond = inputs.target[0]
    return render_under(cascade, params, fit, cond, cond, None, sampling, strengths, seeds)


def cost(config: Config, sampling: Sampling, strength: float) -> Cost:
    """See `Method.cost`."""
    del config
    steps = sampling.steps[0]
    return Cost(steps, steps - first_step(steps, strength))


METHOD = Method(
    name="ddib",
    title="DDIB",
    paper="Su et al. 2023, arXiv:2203.08382",
    summary="walks the picture to noise under the source text and back under the target text",
    needs=frozenset({"source text"}),
    config=Config,
    knob="strength",
    strengths=tuple(round(0.1 * i, 2) for i in range(11)),
    fit=fit,
    render=render,
    cost=cost,
)
