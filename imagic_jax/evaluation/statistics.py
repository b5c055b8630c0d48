"""Intervals and tests for benchmark scores whose unit is the source picture (evaluation: 5).

Values are arrays (sources, seeds, ...): seeds of one source share its picture and its fit, so
sources are resampled, and seeds within them, never (source, seed) rows. NaN marks a seed that is
not there. Bootstrap intervals are BCa (Efron 1987, "Better bootstrap confidence intervals"); the
permutation test flips signs of paired differences; families of tests are corrected by Holm (1979).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri

RESAMPLES = 10_000
LEVEL = 0.95
_EXACT = 14  # up to this many differences, all sign patterns are counted
_BLOCK = 4_000_000  # numbers of one block of resamples

#: From values with leading axes, (..., sources, seeds, *rest), to one number per leading index.
Statistic = Callable[[np.ndarray], np.ndarray]


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float
    sources: int
    kind: str  # "bca", "percentile", "wilson" or "none"


NOTHING = Interval(np.nan, np.nan, np.nan, 0, "none")


def mean_of_sources(values: Float[np.ndarray, "*batch n k"]) -> np.ndarray:
    """The mean over sources of the means over seeds."""
    return np.asarray(_mean_of_seeds(values).mean(axis=-1))


def median_of_sources(values: Float[np.ndarray, "*batch n k"]) -> np.ndarray:
    """The median over sources of the means over seeds: for scores without a lower bound."""
    return np.asarray(np.median(_mean_of_seeds(values), axis=-1))


def _mean_of_seeds(values: np.ndarray) -> np.ndarray:
    there = np.isfinite(values)
    if there.all():
        return values.mean(axis=-1)
    return np.where(there, values, 0.0).sum(axis=-1) / np.maximum(there.sum(axis=-1), 1)


def wilson(successes: float | int, trials: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927).

    Args:
        successes: how many; a fraction of one where a source was right with some of its seeds.
        trials: sources.
        level: coverage.
    """
    if trials == 0:
        return NOTHING
    z, p = float(ndtri(0.5 + level / 2)), float(successes / trials)
    middle = (p + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * np.sqrt(p * (1 - p) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    # At 0 or all successes an end is exact; rounding must not push it past the estimate.
    low, high = (0.0 if p == 0 else middle - half), (1.0 if p == 1 else middle + half)
    return Interval(p, float(low), float(high), trials, "wilson")


def resample(
    rng: np.random.Generator, strata: Int[np.ndarray, " n"], seeds: int, count: int
) -> tuple[Int[np.ndarray, "b n 1"], Int[np.ndarray, "b n k"]]:
    """Indices of `count` resamples: sources within their stratum, then seeds within each source."""
    sources = np.empty((count, len(strata)), np.int64)
    for stratum in np.unique(strata):
        rows = np.flatnonzero(strata == stratum)
        sources[:, rows] = rows[rng.integers(len(rows), size=(count, len(rows)))]
    return sources[..., None], rng.integers(seeds, size=(count, len(strata), seeds))


def bootstrap(
    values: Float[np.ndarray, "n k *rest"],
    statistic: Statistic = mean_of_sources,
    strata: Sequence[Any] | None = None,
    *,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """A BCa cluster-bootstrap interval; percentile where BCa is degenerate.

    Args:
        values: sources, their seeds, and whatever else the statistic reads of one run. A source
            needs one finite seed at least (see `with_sources`).
        statistic: what is estimated; takes leading axes.
        strata: what each source is resampled among, e.g. its kind of edit; None for all.
        resamples: number of resamples.
        level: coverage.
        seed: of the resampling, so that a report is always the same.
    """
    n, k = values.shape[:2]
    if n == 0:
        return NOTHING
    estimate = float(statistic(values))
    layers = np.unique(np.asarray(strata if strata is not None else [0] * n), return_inverse=True)
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK // max(values.size, 1))
    drawn = []
    for start in range(0, resamples, block):
        rows, columns = resample(rng, layers[1], k, min(block, resamples - start))
        drawn.append(statistic(values[rows, columns]))
    found = np.sort(np.concatenate(drawn))
    found = found[np.isfinite(found)]
    if not len(found) or not np.isfinite(estimate):
        return Interval(estimate, np.nan, np.nan, n, "none")
    left_out = (
        np.array([float(statistic(np.delete(values, i, axis=0))) for i in range(n)])
        if n > 1
        else np.array([])
    )
    shares = bca_shares(found, estimate, left_out, level)
    kind = "percentile" if shares is None else "bca"
    if shares is None:
        shares = ((1 - level) / 2, (1 + level) / 2)
    low, high = np.quantile(found, shares)
    return Interval(estimate, float(low), float(high), n, kind)


def bca_shares(
    found: Float[np.ndarray, " b"], estimate: float, left_out: Float[np.ndarray, " n"], level: float
) -> tuple[float, float] | None:
    """The quantiles of the resampled statistics that BCa takes; None where it is degenerate.

    Args:
        found: resampled statistics.
        estimate: the statistic of the data.
        left_out: the statistic with one source left out, each in turn (for the acceleration).
        level: coverage.
    """
    below = float(((found < estimate).mean() + (found <= estimate).mean()) / 2)
    if not 0 < below < 1 or not len(left_out):
        return None
    pull = left_out.mean() - left_out
    spread = float(np.square(pull).sum())
    if not spread > 0:
        return None
    acceleration = float((pull**3).sum()) / (6 * spread**1.5)
    bias = float(ndtri(below))

    def share(tail: float) -> float:
        z = bias + float(ndtri(tail))
        return float(ndtr(bias + z / (1 - acceleration * z)))

    shares = share((1 - level) / 2), share((1 + level) / 2)
    return shares if np.isfinite(shares).all() else None


def rate(
    values: Float[np.ndarray, "n k"], strata: Sequence[Any] | None = None, **options: Any
) -> Interval:
    """The interval of a mean of zeros and ones: Wilson's over sources at 0 or all, else bootstrap.

    Args:
        values: 0 or 1 (NaN for a seed that is not there).
        strata, options: see `bootstrap`.
    """
    finite = values[np.isfinite(values)]
    if len(values) and (finite == finite[0]).all() and finite[0] in (0.0, 1.0):
        return wilson(finite[0] * len(values), len(values), options.get("level", LEVEL))
    return bootstrap(values, strata=strata, **options)


def with_sources(
    values: Float[np.ndarray, "n k"], strata: Sequence[Any]
) -> tuple[Float[np.ndarray, "m k"], list[Any], int]:
    """Leaves sources without one finite value out: (values, their strata, how many were left)."""
    there = np.asarray(np.isfinite(values).any(axis=1))
    kept = [s for s, t in zip(strata, there, strict=True) if t]
    return values[there], kept, int((~there).sum())


class Comparison(NamedTuple):
    """Two methods on the same sources."""

    difference: Interval  # of the means, first minus second
    p: float  # two-sided sign-flip permutation test
    superiority: Interval  # P(first > second) + P(tie) / 2


def compare(
    first: Float[np.ndarray, "n k"],
    second: Float[np.ndarray, "n k"],
    strata: Sequence[Any] | None = None,
    **options: Any,
) -> Comparison:
    """Paired comparison per source; seed j of one belongs to seed j of the other.

    Args:
        first, second: scores of the same sources and seeds, NaN where one is not there.
        strata, options: see `bootstrap`.
    """
    difference = first - second
    seed = options.get("seed", 0)
    return Comparison(
        bootstrap(difference, strata=strata, **options),
        sign_flip(_mean_of_seeds(difference), seed=seed),
        bootstrap(difference, _superiority, strata, **options),
    )


def _superiority(difference: np.ndarray) -> np.ndarray:
    mean = _mean_of_seeds(difference)
    won = np.where(mean > 0, 1.0, 0.0) + np.where(mean == 0, 0.5, 0.0)
    return np.asarray(won.mean(axis=-1))


def sign_flip(differences: Float[np.ndarray, " n"], draws: int = RESAMPLES, seed: int = 0) -> float:
    """Two-sided p of "both methods are alike": signs of paired differences are exchangeable.

    All sign patterns for few differences, else `draws` random ones and the observed (Phipson &
    Smyth 2010: a Monte Carlo p is never 0).
    """
    moved = np.asarray(differences)[np.asarray(differences) != 0]
    if not len(moved):
        return 1.0
    observed = abs(moved.sum())
    slack = 1e-9 * np.abs(moved).sum()  # sums of the same numbers in another order
    if len(moved) <= _EXACT:
        patterns = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        return float((np.abs((1 - 2 * patterns) @ moved) >= observed - slack).mean())
    rng = np.random.default_rng(seed)
    signs = rng.integers(0, 2, (draws, len(moved)), dtype=np.int8) * 2 - 1
    return float((1 + (np.abs(signs @ moved) >= observed - slack).sum()) / (1 + draws))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down correction of a family: adjusted p by name."""
    order = sorted(p_values, key=lambda name: p_values[name])
    adjusted, worst = {}, 0.0
    for rank, name in enumerate(order):
        worst = max(worst, min(1.0, (len(order) - rank) * p_values[name]))
        adjusted[name] = worst
    return {name: adjusted[name] for name in p_values}


def spearman(x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"]) -> float:
    """Spearman's rank correlation, ties at their mean rank; NaN where one of them is constant."""
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    spread = np.sqrt(np.square(a).sum() * np.square(b).sum())
    return float((a * b).sum() / spread) if spread > 0 else float("nan")


def _ranks(values: np.ndarray) -> Float[np.ndarray, " n"]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return ((last - counts + 1 + last) / 2)[inverse]
