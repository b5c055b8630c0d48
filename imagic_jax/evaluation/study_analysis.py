"""What the answers of a user study say: preference rates with honest intervals.

Answers of one rater are alike, and so are answers about one picture: intervals resample raters and
pictures at once (the two-way bootstrap of Owen, 2007: an answer's weight is the product of how
often its rater and its picture were drawn). Raters who contradict themselves on the repeated trial
are left out as in the Imagic paper; the result with all raters stands beside it, since a coin
passes that test half of the time.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from imagic_jax.evaluation import mixed_effects
from imagic_jax.evaluation.mixed_effects import Mixed
from imagic_jax.evaluation.study_answers import Choice, Rater

DRAWS = 2000
_AT_ONCE = 200  # draws, so that memory stays small
_CONVERGED = 1e-9  # relative change of a strength
_PRIOR = 0.5  # wins added to either side of a pair, so that strengths stay finite


class Preference(NamedTuple):
    """How often the first of two methods was preferred."""

    first: str
    second: str
    rate: float
    low: float  # 95 % interval
    high: float
    answers: int
    raters: int
    pictures: int
    left: float  # share of answers that chose the left side


def resampled(
    choices: Sequence[Choice], draws: int = DRAWS, seed: int = 0
) -> Iterator[Float[np.ndarray, "d n"]]:
    """Weights of every choice, drawn by raters and pictures; some draws at a time."""
    rng = np.random.default_rng(seed)
    indices = []
    for names in ([c.rater for c in choices], [c.group for c in choices]):
        indices.append((_numbered(names), len(set(names))))
    for start in range(0, draws, _AT_ONCE):
        count = min(_AT_ONCE, draws - start)
        weights = np.ones((count, len(choices)))
        for index, size in indices:
            times = rng.multinomial(size, np.full(size, 1 / size), size=count)
            weights *= times[:, index]
        yield weights


def preferences(choices: Sequence[Choice], seed: int = 0) -> list[Preference]:
    """Every pair of methods that was compared."""
    found = []
    for first, second in _pairs(choices):
        some = [c for c in choices if {c.chosen, c.other} == {first, second}]
        won = np.asarray([c.chosen == first for c in some], float)
        rates = []
        for weights in resampled(some, seed=seed):
            total = weights.sum(1)
            rates.append((weights @ won)[total > 0] / total[total > 0])
        low, high = np.quantile(np.concatenate(rates), (0.025, 0.975))
        found.append(
            Preference(
                first,
                second,
                float(won.mean()),
                float(low),
                float(high),
                len(some),
                len({c.rater for c in some}),
                len({c.group for c in some}),
                float(np.mean([c.left for c in some])),
            )
        )
    return found


def mixed(choices: Sequence[Choice]) -> dict[str, Mixed]:
    """Every pair of methods by the mixed model, a check on the intervals: {"a : b": ...}."""
    found = {}
    for first, second in _pairs(choices):
        some = [c for c in choices if {c.chosen, c.other} == {first, second}]
        won = np.asarray([c.chosen == first for c in some])
        where = [_numbered([c.rater for c in some]), _numbered([c.group for c in some])]
        told = mixed_effects.fit(won, won == np.asarray([c.left for c in some]), *where)
        if told is not None:
            found[f"{first} : {second}"] = told
    return found


def _numbered(names: Sequence[str]) -> Int[np.ndarray, " n"]:
    where = {n: i for i, n in enumerate(dict.fromkeys(names))}
    return np.asarray([where[n] for n in names])


def _pairs(choices: Sequence[Choice]) -> list[tuple[str, str]]:
    there = {frozenset((c.chosen, c.other)) for c in choices}
    methods = sorted({m for pair in there for m in pair})
    return [p for p in itertools.combinations(methods, 2) if frozenset(p) in there]


def bradley_terry(
    wins: Float[np.ndarray, "*d m m"], met: Bool[np.ndarray, "m m"], steps: int = 500
) -> Float[np.ndarray, "*d m"]:
    """Log strengths with mean 0: P(i beats j) = 1 / (1 + exp(s_j - s_i)).

    Maximum likelihood by Hunter's MM iteration (2004), half a win added to either side of every
    pair that was compared.

    Args:
        wins: wins[..., i, j], how often i was preferred to j.
        met: which pairs were compared; it must connect all methods.
        steps: iterations at most.
    """
    wins = wins + _PRIOR * met
    games = wins + np.swapaxes(wins, -1, -2)
    won = wins.sum(-1)
    strength = np.ones(won.shape)
    for _ in range(steps):
        both = strength[..., :, None] + strength[..., None, :]
        better = won / (games / both).sum(-1)
        better = better / np.exp(np.log(better).mean(-1, keepdims=True))
        done = np.abs(better / strength - 1).max() < _CONVERGED
        strength = better
        if done:
            break
    return np.log(strength)


def strengths(choices: Sequence[Choice], seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Bradley-Terry log strength of every method with its 95 % interval.

    Empty where the comparisons fall into parts that never met.
    """
    methods = sorted({m for c in choices for m in (c.chosen, c.other)})
    where = {m: i for i, m in enumerate(methods)}
    cell = np.asarray([where[c.chosen] * len(methods) + where[c.other] for c in choices])
    one = np.zeros((len(choices), len(methods) ** 2))
    one[np.arange(len(choices)), cell] = 1.0
    met = one.sum(0).reshape(len(methods), -1) > 0
    met |= met.T
    if not np.linalg.matrix_power(np.eye(len(methods)) + met, len(methods)).all():
        return {}

    def fitted(weights: np.ndarray) -> np.ndarray:
        return bradley_terry((weights @ one).reshape(-1, len(methods), len(methods)), met)

    (point,) = fitted(np.ones((1, len(choices))))
    draws = np.concatenate([fitted(w) for w in resampled(choices, seed=seed)])
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    return {m: (float(point[i]), float(low[i]), float(high[i])) for m, i in where.items()}


def analyse(raters: Sequence[Rater], seed: int = 0) -> dict[str, Any]:
    """Everything that is reported, by who is counted; JSON values."""
    counted = {"all raters": list(raters)}
    counted["consistent raters"] = [r for r in raters if r.consistent]
    if any(r.gold is not None for r in raters):
        counted["consistent raters who knew the known answer"] = [
            r for r in raters if r.consistent and r.gold
        ]
    return {name: _about(some, seed) for name, some in counted.items()}


def _about(raters: Sequence[Rater], seed: int) -> dict[str, Any]:
    choices = [c for r in raters for c in r.choices]
    if not choices:
        return {
            "raters": len(raters),
            "answers": 0,
            "preferences": [],
            "mixed": {},
            "strengths": {},
        }
    per = Counter((c.item, frozenset((c.chosen, c.other))) for c in choices)
    methods = {m for c in choices for m in (c.chosen, c.other)}
    return {
        "raters": len(raters),
        "answers": len(choices),
        "fewest_answers_per_comparison": min(per.values()),
        "median_answers_per_comparison": float(np.median(list(per.values()))),
        "median_seconds": float(np.median([c.seconds for c in choices])),
        "preferences": [p._asdict() for p in preferences(choices, seed)],
        "mixed": {pair: m._asdict() for pair, m in mixed(choices).items()},
        "strengths": strengths(choices, seed) if len(methods) > 2 else {},
    }


def _mixed_lines(result: dict[str, Any]) -> list[str]:
    """The mixed model's table."""
    if not any(about["mixed"] for about in result.values()):
        return []
    text = [
        "",
        "Check by a mixed-effects logistic model: the typical rater on the typical picture.",
        "",
        "| who counts | pair | first preferred | left side (log odds) | raters (sd) |"
        " pictures (sd) |",
        "|---|---|---|---|---|---|",
    ]
    for name, about in result.items():
        for pair, m in about["mixed"].items():
            text.append(
                f"| {name} | {pair} | {m['rate']:.1%} [{m['low']:.1%}, {m['high']:.1%}] |"
                f" {m['side']:+.2f} | {m['rater_sd']:.2f} | {m['picture_sd']:.2f} |"
            )
    return text


def markdown(result: dict[str, Any], raters: Sequence[Rater], left_out: Sequence[str]) -> str:
    """The report: all raters and the filtered ones side by side."""
    checked = [r for r in raters if r.consistent is not None]
    wrong = sum(not r.consistent for r in checked)
    text = [
        f"{len(raters)} raters, {sum(not r.finished for r in raters)} of them unfinished;"
        f" {wrong} of {len(checked)} contradicted themselves on the repeated trial"
        f" ({len(raters) - len(checked)} never reached it).",
        "",
        "| who counts | pair | first preferred | answers | raters | pictures | left chosen |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, about in result.items():
        for p in about["preferences"]:
            text.append(
                f"| {name} | {p['first']} : {p['second']} | {p['rate']:.1%} [{p['low']:.1%},"
                f" {p['high']:.1%}] | {p['answers']} | {p['raters']} | {p['pictures']} |"
                f" {p['left']:.0%} |"
            )
        if not about["preferences"]:
            text.append(f"| {name} | no answers | | 0 | {about['raters']} | 0 | |")
    text += _mixed_lines(result)
    if any(about["strengths"] for about in result.values()):
        text += ["", "| who counts | method | Bradley-Terry log strength |", "|---|---|---|"]
        for name, about in result.items():
            for method, (point, low, high) in about["strengths"].items():
                text.append(f"| {name} | {method} | {point:+.2f} [{low:+.2f}, {high:+.2f}] |")
    few = result["all raters"].get("fewest_answers_per_comparison", 0)
    median = result["all raters"].get("median_answers_per_comparison", 0)
    text += ["", f"Answers per comparison: median {median:g}, fewest {few}; intervals resample"
             " raters and pictures."]  # fmt: skip
    if left_out:
        text += ["", "Left out:", "", *(f"* {reason}" for reason in left_out)]
    return "\n".join(text)
