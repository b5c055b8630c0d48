"""Logistic regression with crossed random intercepts: answers of raters about pictures.

    logit P(first preferred) = b0 + b1 side + u_rater + v_picture,  u ~ N(0, s_u^2), v ~ N(0, s_v^2)

by Laplace's approximation (Breslow & Clayton 1993; the fixed effects are found together with the
random ones, as lme4's glmer does with nAGQ = 0). A check on the bootstrap of `study_analysis`, no
replacement: it is about the typical rater and picture, and believes in normal differences.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import expit

_STEPS, _CONVERGED = 100, 1e-9
_MOST_SPREAD = 10.0  # standard deviation, log odds
_MOST = 15.0  # log odds that no finite number of answers tells from certainty


class Mixed(NamedTuple):
    """What the model says.

    Attributes:
        rate, low, high: how often the typical rater prefers the first on the typical picture, with
            the 95 % interval.
        side: log odds by which being on the left helps.
        rater_sd, picture_sd: how much raters and pictures differ, log odds.
    """

    rate: float
    low: float
    high: float
    side: float
    rater_sd: float
    picture_sd: float


class _Mode(NamedTuple):
    """The most likely effects for given spreads."""

    effects: Float[np.ndarray, " p"]  # fixed, then random in units of their spread
    hessian: Float[np.ndarray, "p p"]
    log_likelihood: float  # Laplace's


def fit(
    won: Bool[np.ndarray, " n"],
    left: Bool[np.ndarray, " n"],
    raters: Int[np.ndarray, " n"],
    pictures: Int[np.ndarray, " n"],
) -> Mixed | None:
    """Fits the model; None where the answers do not tell: all are alike, which no finite number
    says, or the first method always stood on one side, which cannot be told from preference.

    Args:
        won: whether the first method was preferred.
        left: whether it stood on the left.
        raters, pictures: whose answer it is and about what, counted from 0.
    """
    y = np.asarray(won, np.float64)
    on_left = np.asarray(left)
    if y.min() == y.max() or on_left.min() == on_left.max():
        return None
    fixed = np.stack([np.ones(len(y)), np.where(on_left, 0.5, -0.5)], axis=1)
    groups = [np.eye(int(g.max()) + 1)[g] for g in (np.asarray(raters), np.asarray(pictures))]
    # By values alone: in a spread of 0 the likelihood is flat by symmetry, whatever lies beside it,
    # and a line search that lands there stays (so on some processors and not on others).
    spread = minimize(
        lambda s: -mode(y, fixed, groups, s).log_likelihood,
        np.ones(2),
        method="Nelder-Mead",
        bounds=[(0.0, _MOST_SPREAD)] * 2,
        options={"xatol": 1e-4, "fatol": 1e-7},
    ).x
    found = mode(y, fixed, groups, spread)
    if not np.abs(found.effects[:2]).max() < _MOST:
        return None
    middle, side = found.effects[:2]
    half = 1.959964 * np.sqrt(np.linalg.inv(found.hessian)[0, 0])
    rate, low, high = (float(expit(middle + d)) for d in (0.0, -half, half))
    return Mixed(rate, low, high, float(side), float(spread[0]), float(spread[1]))


def mode(
    y: Float[np.ndarray, " n"],
    fixed: Float[np.ndarray, "n f"],
    groups: Sequence[Float[np.ndarray, "n _"]],
    spread: Float[np.ndarray, " k"],
) -> _Mode:
    """Newton's iteration to the most likely effects.

    Args:
        y: 0 or 1.
        fixed: columns of the fixed effects.
        groups: one indicator matrix per random effect.
        spread: their standard deviations, log odds.
    """
    design = np.concatenate([fixed, *(s * g for s, g in zip(spread, groups, strict=True))], axis=1)
    prior = np.r_[np.zeros(fixed.shape[1]), np.ones(design.shape[1] - fixed.shape[1])]
    effects = np.zeros(design.shape[1])

    def objective(b: np.ndarray) -> float:
        told = design @ b
        return float(y @ told - np.logaddexp(0.0, told).sum() - (prior * b * b).sum() / 2)

    value, hessian = objective(effects), np.diag(prior)
    for _ in range(_STEPS):
        share = expit(design @ effects)
        hessian = (design * (share * (1 - share))[:, None]).T @ design + np.diag(prior)
        ridge = 1e-10 * np.eye(len(effects))
        step = np.linalg.solve(hessian + ridge, design.T @ (y - share) - prior * effects)
        size = 1.0
        while (new := objective(effects + size * step)) < value and size > 1e-6:
            size /= 2
        effects, gained, value = effects + size * step, new - value, new
        if gained < _CONVERGED or np.abs(effects[: fixed.shape[1]]).max() > 2 * _MOST:
            break
    random = hessian[fixed.shape[1] :, fixed.shape[1] :]
    return _Mode(effects, hessian, value - np.linalg.slogdet(random)[1] / 2)
