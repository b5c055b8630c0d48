"""Text fidelity of plain samples: does a picture drawn from a caption show what it names?"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.registry import Loaded
from imagic_jax.flatland import captions, free_reader, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors
from imagic_jax.jobs.sample import draw_texts
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.progress import Reporter

#: iid: seen combinations and wordings; held-out: combinations kept for `part`; phrase: unseen
#: wordings of seen combinations.
Split = Literal["iid", "held-out", "phrase"]


class Prompt(NamedTuple):
    """A caption and what it names."""

    text: str
    factors: Factors
    named: dict[str, int]


def prompts(split: Split, count: int, part: splits.Part = "validation") -> list[Prompt]:
    """`count` captions of a split, the same ones every time, all classes equally often.

    Captions of held-out combinations name class, state, colour and place, so that they ask for
    the combination; the others name a random subset, as in training.
    """
    found = []
    for i in range(count):
        rng = random.Random(f"fidelity/{part}/{split}/{i}")
        cls = i % len(fx.CLASSES)
        f = splits.draw_factors(rng, cls, part if split == "held-out" else "train")
        named = set(captions.mentioned_factors(f, rng))
        if split == "held-out":
            named |= {"cls", "state", "colour", "place"}
        named = {n for n in named if len(fx.values(n, cls)) > 1}
        wording = part if split == "phrase" else "train"
        text = captions.caption(f, named, rng, wording)
        found.append(Prompt(text, f, captions.parse(text)))
    return found


def measure(
    loaded: Loaded,
    settings: EditSettings,
    split: Split,
    count: int,
    reporter: Reporter,
    part: splits.Part = "validation",
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Draws one picture per prompt and reads it.

    Returns:
        One row per prompt (text, named, seen, right per factor, residual), and the pictures at
        the cascade's size, (count, H, W, 3) in [-1, 1].
    """
    asked = prompts(split, count, part)
    drawn = draw_texts(loaded, [p.text for p in asked], "", settings, reporter)
    rows = []
    reporter.say(f"reading {count} pictures")
    readings = free_reader.read_free(to_free_size(drawn), marks=draws_marks(loaded.card))
    for prompt, reading in zip(asked, readings, strict=True):
        right = {n: int(getattr(reading.factors, n)) == v for n, v in prompt.named.items()}
        rows.append(
            {
                "split": split,
                "text": prompt.text,
                "named": {
                    n: fx.values(n, int(prompt.factors.cls))[v] for n, v in prompt.named.items()
                },
                "seen": fx.describe(reading.factors),
                "right": right,
                "residual": reading.residual,
            }
        )
    return rows, drawn


def draws_marks(card: Mapping[str, Any]) -> bool:
    """Whether what a model draws from text may carry identity marks, as its training told.

    Args:
        card: see `registry.Loaded`; its first stage decides what is drawn.
    """
    first = (card.get("stages") or [{}])[0]
    return bool(first.get("training", {}).get("mark_share", 0.0))


def to_free_size(pictures: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n 32 32 3"]:
    """Samples in [-1, 1], of any multiple of 32 pixels, as the free reader wants them."""
    size = free_reader.SIZE
    k = pictures.shape[1] // size
    blocks = pictures.reshape(len(pictures), size, k, size, k, 3).mean(axis=(2, 4))
    return np.clip((blocks + 1.0) / 2.0, 0.0, 1.0).astype(np.float32)


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares of the named factors that were drawn right, in all and by factor."""
    by_factor: dict[str, list[bool]] = defaultdict(list)
    for row in rows:
        for name, right in row["right"].items():
            by_factor[name].append(right)
    every = [r for values in by_factor.values() for r in values]
    return {
        "prompts": len(rows),
        "named_factors": len(every),
        "named_factors_right": float(np.mean(every)),
        "all_named_right": float(np.mean([all(r["right"].values()) for r in rows])),
        "by_factor": {n: float(np.mean(by_factor[n])) for n in fx.FACTOR_NAMES if n in by_factor},
        "residual_p99": float(np.quantile([r["residual"] for r in rows], 0.99)),
    }
