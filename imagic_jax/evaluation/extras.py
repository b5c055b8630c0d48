"""Scores besides those of the reader: what `--eta=auto` would see, and a trained CLIP pair.

wclip and wlpips are no CLIP and no LPIPS: they come from the small pair that was trained on
Flatland, and must never be compared with published values (evaluation: 4.6, metric 12).
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Float

from imagic_jax.evaluation.items import Item
from imagic_jax.flatland.free_reader import FreeReading
from imagic_jax.jobs import eta_scorers
from imagic_jax.jobs.eta_scorers import PAIR, Pair, ReaderScorer

#: From an item and pictures in [0, 1] to columns: {key: one value per picture}.
Extra = Callable[[Item, Float[np.ndarray, "n 64 64 3"]], dict[str, Float[np.ndarray, " n"]]]


def auto_scores(items: Sequence[Item]) -> Extra:
    """What `--eta=auto` would score, from the input alone: its nuisance is read, not known."""
    sources = np.stack([i.pictures()[0] for i in items])
    seen: dict[str, FreeReading] = {
        item.name: reading
        for item, reading in zip(items, eta_scorers.read_source(sources), strict=True)
    }

    def score(item: Item, pictures: np.ndarray) -> dict[str, np.ndarray]:
        source = item.pictures()[0]
        scorer = ReaderScorer(source, seen[item.name], item.text)
        alignment, fidelity = scorer(pictures * 2.0 - 1.0)
        return {"auto_alignment": alignment, "auto_fidelity": fidelity}

    return score


def open_learned() -> Extra | None:
    """wclip and wlpips; None where the trained pair is not there."""
    if not (PAIR / "config.json").is_file():
        return None
    pair = Pair(PAIR)

    def score(item: Item, pictures: np.ndarray) -> dict[str, np.ndarray]:
        return learned_scores(pair, item, pictures)

    return score


def learned_scores(
    pair: Pair, item: Item, pictures: Float[np.ndarray, "n 64 64 3"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """wclip: cosine of picture and text. wlpips_kept: 1 minus the mean squared distance of unit
    patch states to the source's, the form of LPIPS without its calibration."""
    source = item.pictures()[0]
    both = np.concatenate([source[None], pictures]) * 2.0 - 1.0
    seen, states = pair.features(both)
    distance = np.square(states[1:] - states[:1]).sum(axis=-1).mean(axis=-1)
    return {"wclip": seen[1:] @ pair.texts([item.text])[0], "wlpips_kept": 1.0 - distance}


def ranks_ideals_first(items: Sequence[Item]) -> float | None:
    """The share of items whose ideal edit fits the text better than the source does, by wclip:
    below 0.98 wclip should not be read. None where the pair is not there."""
    score = open_learned()
    if score is None or not items:
        return None
    right = []
    for item in items:
        source, ideals = item.pictures()
        wclip = score(item, np.stack([source, ideals[0]]))["wclip"]
        right.append(wclip[1] > wclip[0])
    return float(np.mean(right))
