"""How much a method's outputs look like the world's own pictures (evaluation: 4.6, metric 13).

KID between outputs and the ideal edits of the same items, in the features of the CLIP pair that was
trained on Flatland: no Inception, never to be compared with published values. All outputs count,
valid or not: with the few that are valid a set says nothing. FID is not shown: at so few pictures
it measures their number.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.errors import UserError
from imagic_jax.evaluation.items import Item
from imagic_jax.evaluation.units import Unit, pictures_file
from imagic_jax.jobs import output
from imagic_jax.jobs.eta_scorers import PAIR, Pair

FILE = "realism.json"
LEAST = 10  # pictures; fewer say nothing
#: From pictures in [-1, 1], (n, h, w, 3), to embeddings of length 1, (n, p).
Embed = Callable[[np.ndarray], np.ndarray]


class Realism(NamedTuple):
    """KID with its standard error, and over how many pictures."""

    kid: float
    error: float
    pictures: int


def paired_kid(x: Float[np.ndarray, "n p"], y: Float[np.ndarray, "n p"]) -> tuple[float, float]:
    """Squared MMD under the kernel (x.y / p + 1)^3, with its jackknife error.

    Row i of both is about the same item, so that the pairs (i, i) are left out of all three sums
    (Gretton et al. 2012, equation 3): unbiased though the sets depend on each other, and exactly 0
    where they are equal.
    """
    n, p = x.shape

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a.astype(np.float64) @ b.T.astype(np.float64) / p + 1.0) ** 3

    h = kernel(x, x) + kernel(y, y) - kernel(x, y) - kernel(y, x)
    np.fill_diagonal(h, 0.0)
    rows = h.sum(axis=1)
    left_out = (rows.sum() - 2 * rows) / ((n - 1) * (n - 2))
    return float(rows.sum() / (n * (n - 1))), float(np.sqrt(left_out.var() * (n - 1)))


def measure(
    items: Sequence[Item], methods: Mapping[str, float], out: Path, embed: Embed
) -> dict[str, Realism]:
    """KID of every method whose pictures are there, first seeds at its strength."""
    ideals: dict[str, np.ndarray] = {}
    found = {}
    for method, strength in methods.items():
        pictures, same = [], []
        for item in items:
            try:
                picture, fault = Unit.read(pictures_file(out, method, item)).at(strength)
            except UserError:
                continue
            if not fault:
                pictures.append(picture)
                same.append(item)
        if len(pictures) < LEAST:
            continue
        missing = [i for i in same if i.name not in ideals]
        if missing:
            drawn = _features(embed, np.stack([i.pictures()[1][0] for i in missing]))
            ideals |= dict(zip([i.name for i in missing], drawn, strict=True))
        goals = np.stack([ideals[i.name] for i in same])
        kid, error = paired_kid(_features(embed, np.stack(pictures)), goals)
        found[method] = Realism(kid, error, len(same))
    return found


def _features(embed: Embed, pictures: Float[np.ndarray, "n 64 64 3"]) -> Float[np.ndarray, "n p"]:
    """Embeddings whose entries are of order one, as the kernel wants them."""
    parts = [embed(pictures[i : i + 32] * 2.0 - 1.0) for i in range(0, len(pictures), 32)]
    seen = np.concatenate(parts)
    return seen * np.sqrt(seen.shape[1])


def update(items: Sequence[Item], methods: Mapping[str, float], out: Path) -> dict[str, Realism]:
    """What the folder's pictures say, kept beside the rows; what was kept where they are gone.

    Raises:
        UserError: what was kept is broken.
    """
    path = out / FILE
    if (out / "pictures").is_dir() and (PAIR / "config.json").is_file():
        found = measure(items, methods, out, Pair(PAIR).pictures)
        kept = {m: r._asdict() for m, r in found.items()}
        output.write_text(path, json.dumps(kept, indent=1) + "\n")
        return found
    try:
        kept = json.loads(path.read_text()) if path.is_file() else {}
        return {m: Realism(**r) for m, r in kept.items() if m in methods}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is broken ({error}); remove it") from error
