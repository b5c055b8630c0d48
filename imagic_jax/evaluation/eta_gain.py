"""What `--eta=auto` gains over one eta for all pictures, and the best of all pictures by score
(`jobs.eta_choice` has the rules).

A picture's eta is the largest whose fidelity is within a tolerance of that at eta = 0. The
tolerance is the one number that must be chosen, as the fixed eta is its rival's.
"""

import contextlib
import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from imagic_jax.evaluation import curves, statistics
from imagic_jax.evaluation.statistics import Interval
from imagic_jax.evaluation.tables import AUTO, BEST, Sweep, best_strength
from imagic_jax.jobs import eta_choice

#: How far fidelity may fall (dB): what is chosen from.
TOLERANCES = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 13.0)
#: What both are compared by.
SCORES = {
    "JOINT": "joint",
    "JOINT, ungated": "read_joint",
    "edit success": "success",
    "preservation": "preservation",
}


class Gain(NamedTuple):
    """One score of both."""

    scored: Interval  # eta by score
    fixed: Interval
    difference: Interval  # paired by picture and seed


def can_choose(sweep: Sweep) -> bool:
    """Whether the rows say what `--eta=auto` would see."""
    return len(sweep.strengths) > 1 and bool(np.isfinite(sweep.values("auto_fidelity")).any())


def chosen_by_score(sweep: Sweep, told: Sweep) -> tuple[Sweep, float]:
    """Imagic with the eta that `--eta=auto` takes, picture by picture: (sweep, tolerance in dB).

    The tolerance is the best on `told` by joint success.
    """
    joint, read = _every_tolerance([_picked(told, t) for t in TOLERANCES])
    tolerance = TOLERANCES[curves.best(joint, read)]
    return _picked(sweep, tolerance), tolerance


def left_out(sweep: Sweep) -> tuple[Sweep, Sweep]:
    """(eta by score, one fixed eta) where no other part was swept: the tolerance, and the fixed
    eta, that a picture gets are the best on all other pictures."""
    picked = [_picked(sweep, t) for t in TOLERANCES]
    joint, read = _every_tolerance(picked)
    scored, fixed = (np.full((*sweep.rows.shape[:2], 1), None, object) for _ in range(2))
    for i in range(len(sweep.items)):
        best = curves.best(np.delete(joint, i, axis=0), np.delete(read, i, axis=0))
        scored[i] = picked[best].rows[i]
        fixed[i, :, 0] = sweep.rows[i, :, best_strength(sweep, without=i)]
    one = dataclasses.replace(sweep, strengths=(0.0,), rows=fixed)
    return dataclasses.replace(one, method=AUTO, rows=scored), one


def at_strength(sweep: Sweep, strength: float) -> Sweep:
    """A sweep at one strength."""
    at = sweep.strengths.index(strength)
    return dataclasses.replace(sweep, strengths=(strength,), rows=sweep.rows[..., at : at + 1])


def gains(scored: Sweep, fixed: Sweep, **options: Any) -> dict[str, Gain]:
    """Both side by side; `options` are those of `statistics.bootstrap`."""
    found = {}
    for title, key in SCORES.items():
        a, b = (s.values(key)[..., 0] for s in (scored, fixed))
        there = np.asarray(np.isfinite(a - b).any(axis=1))
        edits = [e for e, t in zip(scored.edits, there, strict=True) if t]
        if there.any():
            found[title] = Gain(
                *(statistics.bootstrap(v[there], strata=edits, **options) for v in (a, b, a - b))
            )
    return found


def best_of_all(sweep: Sweep) -> Sweep:
    """Imagic with one picture per item: of all strengths and seeds the one that `choose_best` takes
    by score. An item whose pictures cannot be scored keeps its first."""
    items, seeds, _ = sweep.rows.shape
    etas = np.tile(np.array(sweep.strengths), seeds)
    alignment, fidelity = sweep.values("auto_alignment"), sweep.values("auto_fidelity")
    rows = np.full((items, 1, 1), None, object)
    for i in range(items):
        at = 0
        with contextlib.suppress(ValueError):
            at = eta_choice.choose_best(etas, alignment[i].ravel(), fidelity[i].ravel()).at
        rows[i, 0, 0] = sweep.rows[i].ravel()[at]
    return dataclasses.replace(sweep, method=BEST, strengths=(0.0,), rows=rows)


def _every_tolerance(picked: Sequence[Sweep]) -> tuple[np.ndarray, np.ndarray]:
    """Joint success, and the same without the gates, of every tolerance: (n, k, tolerances)."""
    joint, read = (
        np.concatenate([p.values(key) for p in picked], axis=-1) for key in ("joint", "read_joint")
    )
    return joint, read


def _picked(sweep: Sweep, tolerance: float) -> Sweep:
    """One strength per picture, chosen by the rule of `eta_choice`."""
    etas = np.array(sweep.strengths)
    alignment, fidelity = sweep.values("auto_alignment"), sweep.values("auto_fidelity")
    rows = np.full((*sweep.rows.shape[:2], 1), None, object)
    for i, k in np.ndindex(*sweep.rows.shape[:2]):
        at = int(np.argmin(np.abs(etas)))
        if np.isfinite(fidelity[i, k, at]):
            at = eta_choice.choose(etas, alignment[i, k], fidelity[i, k], tolerance).at
        rows[i, k, 0] = sweep.rows[i, k, at]
    return dataclasses.replace(sweep, method=AUTO, strengths=(0.0,), rows=rows)
