"""Several candidates for each seed, of which CLIP chooses: editors that draw at random inside a
mask are used that way (Blended Diffusion draws 64 and shows the best)."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.editors.contracts import mask_at
from imagic_jax.errors import UserError
from imagic_jax.metrics.clip_guidance import Reader, Scorer, distance
from imagic_jax.typing import Params


def candidate_seeds(seeds: Sequence[int], count: int) -> list[int]:
    """`count` seeds for each seed, its own first."""
    return [
        seed if i == 0 else int(np.random.SeedSequence([seed, i]).generate_state(1)[0])
        for seed in seeds
        for i in range(count)
    ]


def check(candidates: int, clip: bool) -> None:
    """Makes sure that candidates can be ranked.

    Raises:
        UserError: there are several and no CLIP model, or none at all.
    """
    if candidates < 1:
        raise UserError(f"candidates must be at least 1, got {candidates}")
    if candidates > 1 and not clip:
        raise UserError(
            f"{candidates} candidates for each seed are ranked by a CLIP model, and none is beside"
            " this model (--clip=FOLDER); set candidates to 1 to draw without one"
        )


def best(
    pictures: Float[np.ndarray, "n h w 3"],
    candidates: int,
    mask: Float[Array, "1 s s 1"],
    scorer: Scorer | None,
) -> Float[np.ndarray, "n2 h w 3"]:
    """Of every `candidates` pictures the one whose masked part is nearest to the text."""
    if candidates == 1 or scorer is None:
        return pictures
    inside = np.asarray(mask_at(mask, pictures.shape[1]))
    groups = pictures.reshape(-1, candidates, *pictures.shape[1:])
    far = np.stack([_distances(*scorer, jnp.asarray(group * inside)) for group in groups])
    return groups[np.arange(len(groups)), far.argmin(axis=1)]


@functools.partial(jax.jit, static_argnums=0)
def _distances(
    reader: Reader, params: Params, text: Float[Array, "1 p"], pictures: Float[Array, "n h w 3"]
) -> Float[Array, " n"]:
    return distance(reader, params, text, pictures)
