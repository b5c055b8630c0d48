"""People who answer a user study, simulated: fair, always left, careless, or stubbornly wrong."""

import json
import random

from imagic_jax.evaluation.study_design import TRUTH


def answer_of(kind, trial, better, rng):
    """ "left" or "right"; `better` is the probability that a fair rater prefers by method."""
    if kind == "left":
        return "left"
    if kind == "careless":
        return rng.choice(["left", "right"])
    if trial["kind"] == "gold":
        return "left" if trial["left"] == TRUTH else "right"
    # A fair rater has one opinion on a pair, whichever side it is on.
    first, second = sorted((trial["left"], trial["right"]))
    opinion = random.Random(f"{rng.seed_name}/{trial['item']}/{first}/{second}").random()
    liked = first if opinion < better[first, second] else second
    return "left" if trial["left"] == liked else "right"


def record_of(key, form, kind, better, name):
    """What the page would save for one rater."""
    rng = random.Random(name)
    rng.seed_name = name
    trials = {t: v for t, v in key["trials"].items() if v["form"] == form}
    answers = [
        {
            "trial": t,
            "choices": [answer_of(kind, v, better, rng) for _ in key["questions"]],
            "rt_ms": [1800 + rng.randrange(2000) for _ in key["questions"]],
        }
        for t, v in trials.items()
    ]
    return {
        "schema": 1, "study": key["study"], "form": form, "rater": name, "finished": True,
        "answers": answers,
    }  # fmt: skip


def write_answers(folder, key, kinds, better):
    """One file per rater, forms in turn; returns the paths."""
    folder.mkdir(exist_ok=True)
    paths = []
    for number, kind in enumerate(kinds):
        form = 1 + number % key["forms"]
        path = folder / f"answers-{number}.json"
        path.write_text(json.dumps(record_of(key, form, kind, better, f"{kind}{number}")))
        paths.append(path)
    return paths
