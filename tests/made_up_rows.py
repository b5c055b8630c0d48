"""Rows of a Flatland run as a model with known behaviour would leave them, without any picture."""

import numpy as np

from imagic_jax.evaluation.scoring import SCORES_ID
from imagic_jax.flatland.factors import FACTOR_NAMES

EDITS = ("pose", "colour", "class", "place")
ETAS = tuple(i / 10 for i in range(11))
CHANGES = {"pose": "state", "colour": "colour", "class": "cls", "place": "place"}


def row(method="imagic", item="i0", edit="pose", part="test", strength=0.5, seed=0, **scores):
    """One row: nothing done, everything kept, unless `scores` say otherwise."""
    kept = [n for n in FACTOR_NAMES if n != CHANGES.get(edit)]
    numbers = {
        "success": False,
        "read_success": False,
        "preservation": 1.0,
        "identity": 1.0,
        "joint": False,
        "joint_factors": False,
        "read_joint": False,
        "under_edit": True,
        "over_edit": False,
        "drift": 0.0,
        "cf_psnr": 19.0,
        "cf_psnr_registered": 19.0,
        "cf_ssim": 0.8,
        "cf_ssim_registered": 0.8,
        "skill": 0.0,
        "skill_bounded": 0.0,
        "dose": 0.0,
        "collateral": 0.0,
        "cosine": None,
        "background_psnr": 30.0,
        "source_psnr": 28.0,
        "fit_s": 12.0,
        "render_s": 0.8,
        "gradient_steps": 230,
        "fit_evaluations": 920,
        "render_evaluations": 40,
        "memory_mib": 900.0,
    }
    about = {"item": item, "edit": edit, "split": "iid", "method": method, "part": part}
    where = {"strength": strength, "seed": seed, "fault": "", "leaked": [], "kept": kept}
    return {**about, **where, "scores": SCORES_ID, **numbers, **scores}


def sweep(
    method, part="test", items=24, seeds=4, onset=0.6, loss=0.9, spread=0.15, tuned=True, **more
):
    """A method whose edits appear at `onset` (give or take `spread` per picture and seed) and that
    loses something else at `loss`."""
    rng = np.random.default_rng(len(method) + 7 * (part == "test"))
    rows = []
    for i in range(items):
        edit = EDITS[i % len(EDITS)]
        hard = rng.normal(0, spread)
        for seed in range(seeds):
            appears, lost = onset + hard + rng.normal(0, spread / 2, 2)
            lost = lost + loss - onset
            for eta in ETAS:
                done, leaks = bool(eta >= appears), bool(eta >= lost)
                joint = done and not leaks and tuned
                scores = {
                    "success": done,
                    "read_success": done,
                    "preservation": 0.8 if leaks else 1.0,
                    "leaked": ["place" if edit != "place" else "colour"] if leaks else [],
                    "identity": (0.5 if leaks else 1.0) if tuned else 0.5,
                    "joint": joint,
                    "joint_factors": done and not leaks,
                    "read_joint": joint,
                    "under_edit": not done,
                    "over_edit": done and leaks,
                    "dose": min(1.0, max(0.0, eta - appears + 0.5)),
                    "background_psnr": (30.0 - 6 * eta) if tuned else 11.0,
                    "source_psnr": (28.0 - 9 * eta) if tuned else 10.0,
                    **more,
                }
                rows.append(row(method, f"{part}-{edit}-{i}", edit, part, eta, seed, **scores))
    return rows


def run(seeds=4):
    """A whole run: Imagic, its ablations, a baseline, copying."""
    rows = []
    for part, count in (("validation", 12), ("test", 24)):
        kinds = {"part": part, "items": count, "seeds": 1 if part == "validation" else seeds}
        rows += sweep("imagic", **kinds)
        rows += sweep("imagic_no_tuning", onset=0.1, loss=0.2, tuned=False, **kinds)
        rows += sweep("imagic_10_embedding_steps", onset=5.0, loss=9.0, **kinds)
        rows += sweep("imagic_100_embedding_steps", **kinds)
        rows += sweep("imagic_1000_embedding_steps", **kinds)
        rows += sweep("sdedit", onset=0.5, loss=0.4, fit_s=0.0, fit_evaluations=0, **kinds)
        rows += sweep("ddib", onset=0.7, loss=0.5, fit_s=2.0, fit_evaluations=40, **kinds)
    for i in range(24):
        edit = EDITS[i % 4]
        name = f"test-{edit}-{i}"
        rows.append(row("copy", name, edit, strength=0.0))
        rows.append(row("anchor: copy", name, edit, strength=None))
        right = {"success": True, "joint": True, "read_success": True, "under_edit": False}
        rows.append(row("anchor: oracle", name, edit, strength=None, **right))
    return rows
