"""What the Imagic paper says, asked of a run (evaluation: 5, the pre-registered checks C1-C6).

Every check is decided by a rule that was fixed before any run, answers with its numbers, and says
"not seen" as plainly as "seen". A small world need not reproduce the paper's numbers.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from imagic_jax.evaluation import curves, statistics
from imagic_jax.evaluation.scoring import LEAST_IDENTITY
from imagic_jax.evaluation.statistics import Interval
from imagic_jax.evaluation.tables import Sweep, paired

Verdict = Literal["seen", "not seen", "cannot be told"]
#: C1: at eta = 0 the picture comes back this well.
_BACK_PSNR, _BACK_IDENTITY = 30.0, 0.95
_MOST_SAME = 0.05  # C4: difference in joint success that counts as none


class Check(NamedTuple):
    """One answer."""

    name: str
    claim: str
    verdict: Verdict
    numbers: str


def checks(
    found: Mapping[str, Sweep],
    chosen: Mapping[str, float],
    swept: Mapping[str, Sweep] | None = None,
    **options: Any,
) -> list[Check]:
    """All answers; `options` are those of `statistics.bootstrap`.

    Args:
        found: the sweeps of one part: what methods are compared on (C6).
        chosen: the strength of every method.
        swept: whole sweeps, where they are of other items (C1-C5).
    """
    swept = found if swept is None else swept
    asked: list[tuple[str, str, Callable[..., tuple[Verdict, str]]]] = [
        ("C1", "eta = 0 gives the picture back with fine-tuning, not without", _c1),
        ("C2", "with eta, edit success rises and preservation falls", _c2),
        ("C3", "more than half of the successful pictures have a window of good eta", _c3),
        ("C4", "10 embedding steps leave no edit over eta; 1000 are like 100", _c4),
        ("C5", "seeds change at different eta", _c5),
        ("C6", "Imagic beats SDEdit and DDIB on pose edits", _c6),
    ]
    answers = []
    for name, claim, answer in asked:
        verdict, numbers = answer(found if name == "C6" else swept, chosen, options)
        about = swept.get("imagic_10_embedding_steps" if name == "C4" else "imagic")
        if verdict != "cannot be told" and name != "C6" and about is not None:
            numbers += f"; over {len(about.items)} pictures, {_seeds(about)} each"
        answers.append(Check(name, claim, verdict, numbers))
    return answers


def _seeds(sweep: Sweep) -> str:
    count = sweep.rows.shape[1]
    return f"{count} seeds" if count > 1 else "one seed"


def says(interval: Interval, digits: int = 3) -> str:
    """An interval in words: "0.620 [0.510, 0.720]"."""
    low, high = f"{interval.low:.{digits}f}", f"{interval.high:.{digits}f}"
    return f"{interval.estimate:.{digits}f} [{low}, {high}]"


def _lacking(found: Mapping[str, Sweep], *names: str) -> str:
    lost = [n for n in names if n not in found or len(found[n].items) == 0]
    return f"not run: {', '.join(lost)}" if lost else ""


def _mean(sweep: Sweep, key: str, at: int, options: Any) -> Interval:
    values, strata, _ = statistics.with_sources(sweep.values(key)[..., at], sweep.edits)
    return statistics.bootstrap(values, strata=strata, **options)


def _no_sweep(sweep: Sweep) -> str:
    return "" if len(sweep.strengths) > 2 else "only the chosen strength was drawn"


def _c1(found: Mapping[str, Sweep], chosen: Any, options: Any) -> tuple[Verdict, str]:
    if lost := _lacking(found, "imagic", "imagic_no_tuning"):
        return "cannot be told", lost
    tuned, bare = found["imagic"], found["imagic_no_tuning"]
    if tuned.strengths[0] != 0 or bare.strengths[0] != 0:
        return "cannot be told", "eta = 0 was not drawn"
    back, lost_back = (_mean(s, "background_psnr", 0, options) for s in (tuned, bare))
    mark, lost_mark = (_mean(s, "identity", 0, options) for s in (tuned, bare))
    good = back.estimate >= _BACK_PSNR and mark.estimate >= _BACK_IDENTITY
    bad = lost_back.estimate < _BACK_PSNR and lost_mark.estimate < _BACK_IDENTITY
    n, some = len(tuned.rows), len(bare.rows)
    numbers = (
        f"background {says(back, 1)} dB and identity {says(mark)} with fine-tuning;"
        f" {says(lost_back, 1)} dB and {says(lost_mark)} without"
        f"{f', on {some} of them' if some < n else ''}"
        f" (bounds {_BACK_PSNR:g} dB, {_BACK_IDENTITY:g})"
    )
    return ("seen" if good and bad else "not seen"), numbers


def _c2(found: Mapping[str, Sweep], chosen: Any, options: Any) -> tuple[Verdict, str]:
    if lost := _lacking(found, "imagic") or _no_sweep(found["imagic"]):
        return "cannot be told", lost
    sweep = found["imagic"]
    difference = {
        key: _last_minus_first(sweep, key, options) for key in ("read_success", "preservation")
    }
    rises = difference["read_success"].low > 0
    falls = difference["preservation"].high < 0
    correlations = [_correlation(c) for c in sweep.values("read_success").mean(axis=1)]
    told = [c for c in correlations if np.isfinite(c)]
    middle = f"{np.median(told):.2f}" if told else "undefined"
    numbers = (
        f"from the smallest to the largest eta, success without the gates changes by"
        f" {says(difference['read_success'])} and preservation by"
        f" {says(difference['preservation'])}; median Spearman of eta and success {middle}"
        f" ({len(correlations) - len(told)} of {len(correlations)} pictures never change)"
    )
    return ("seen" if rises and falls else "not seen"), numbers


def _last_minus_first(sweep: Sweep, key: str, options: Any) -> Interval:
    values = sweep.values(key)
    moved, strata, _ = statistics.with_sources(values[..., -1] - values[..., 0], sweep.edits)
    return statistics.bootstrap(moved, strata=strata, **options)


def _correlation(curve: np.ndarray) -> float:
    there = np.isfinite(curve)
    return statistics.spearman(np.flatnonzero(there).astype(float), curve[there])


def _c3(found: Mapping[str, Sweep], chosen: Any, options: Any) -> tuple[Verdict, str]:
    if lost := _lacking(found, "imagic") or _no_sweep(found["imagic"]):
        return "cannot be told", lost
    sweep = found["imagic"]
    done = np.nan_to_num(sweep.values("success")).astype(bool)
    joint = np.nan_to_num(sweep.values("joint"))
    once = done.any(axis=-1)
    shift = np.nan_to_num(sweep.values("drift"), nan=9.0)
    kept, mark = (np.nan_to_num(sweep.values(k)) for k in ("preservation", "identity"))
    drifted = curves.drift(kept, mark, shift, LEAST_IDENTITY) < curves.onset(done)
    if not once.any():
        numbers = "no picture is edited validly at any eta"
        return "not seen", f"{numbers}; in {drifted.mean():.0%} something else is lost first"
    share = float((joint.max(axis=-1)[once] > 0).mean())
    where = [s for s, j in zip(sweep.strengths, joint.mean(axis=(0, 1)), strict=True) if j > 0]
    lies = f"between eta {min(where):g} and {max(where):g}" if where else "nowhere"
    numbers = (
        f"{share:.0%} of the {int(once.sum())} pictures that are edited at some eta are wholly"
        f" right at some eta; windows lie {lies}; in {drifted.mean():.0%} of all something else is"
        " lost before the edit appears"
    )
    return ("seen" if share > 0.5 else "not seen"), numbers


def _c4(found: Mapping[str, Sweep], chosen: Any, options: Any) -> tuple[Verdict, str]:
    few, usual, many = (f"imagic_{n}_embedding_steps" for n in (10, 100, 1000))
    if lost := _lacking(found, few, usual, many) or _no_sweep(found[few]):
        return "cannot be told", lost
    rise = {n: _last_minus_first(found[n], "read_success", options) for n in (few, usual)}
    a, b, edits = paired(found[many], found[usual], dict(chosen), "joint")
    gain = statistics.bootstrap(a - b, strata=edits, **options)
    flat = rise[few].estimate <= _MOST_SAME < rise[usual].estimate
    alike = gain.low <= _MOST_SAME and gain.high >= -_MOST_SAME
    numbers = (
        f"success without the gates rises over eta by {says(rise[few])} after 10 steps and by"
        f" {says(rise[usual])} after 100; JOINT of 1000 minus 100 steps is {says(gain)}"
    )
    return ("seen" if flat and alike else "not seen"), numbers


def _c5(found: Mapping[str, Sweep], chosen: Any, options: Any) -> tuple[Verdict, str]:
    if lost := _lacking(found, "imagic") or _no_sweep(found["imagic"]):
        return "cannot be told", lost
    sweep = found["imagic"]
    if sweep.rows.shape[1] < 2:
        return "cannot be told", "one seed alone was drawn"
    onsets = curves.onset(np.nan_to_num(sweep.values("read_success")).astype(bool))
    some = (onsets < len(sweep.strengths)).any(axis=1)
    if not some.any():
        return "cannot be told", "no edit appears at any eta"
    spread = (onsets.max(axis=1) - onsets.min(axis=1))[some]
    share = float((spread > 0).mean())
    numbers = (
        f"{share:.0%} of the {int(some.sum())} pictures whose edit appears change at another eta"
        f" with another seed (median spread {np.median(spread):g} of {len(sweep.strengths)} steps)"
    )
    return ("seen" if share > 0.5 else "not seen"), numbers


def _c6(found: Mapping[str, Sweep], chosen: Any, options: Any) -> tuple[Verdict, str]:
    if lost := _lacking(found, "imagic", "sdedit", "ddib"):
        return "cannot be told", lost
    imagic, parts, better = found["imagic"].only(edit="pose"), [], True
    for name in ("sdedit", "ddib"):
        a, b, edits = paired(imagic, found[name].only(edit="pose"), dict(chosen), "joint")
        if not len(a):
            return "cannot be told", "no pose edits were run"
        gain = statistics.bootstrap(a - b, strata=edits, **options)
        better &= gain.low > 0
        parts.append(f"JOINT of Imagic minus {name} on {len(a)} pose edits is {says(gain)}")
    return ("seen" if better else "not seen"), "; ".join(parts)
