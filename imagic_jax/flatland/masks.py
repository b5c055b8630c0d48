"""Masks of Flatland pictures: where the subject is, and where an edit changes the picture.

From the factors that a picture was drawn with, or from those that are read in it.
"""

import jax
import numpy as np
from jaxtyping import Float

from imagic_jax.flatland import captions, free_reader
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors
from imagic_jax.flatland.free_reader import FreeReading
from imagic_jax.flatland.nuisance import Nuisance
from imagic_jax.flatland.reader import render_list
from imagic_jax.flatland.render import subject_cover

#: A pixel belongs to an edit where source and ideal differ by more, and so many pixels around, at
#: 64 pixels per side.
CHANGED, MARGIN = 4 / 255, 2
#: Of a pixel, what the subject must cover for it to belong to the subject.
COVERED = 0.02
#: A picture that is explained worse is no Flatland picture, or is not read surely.
MOST_RESIDUAL = 0.006


def subject_mask(f: Factors, u: Nuisance, size: int) -> Float[np.ndarray, "size size"]:
    """1 where the subject is, its mark and hat included, and a margin around it."""
    return grown(np.asarray(subject_cover(f, u, size)) > COVERED, size)


def edit_mask(f: Factors, g: Factors, u: Nuisance, size: int) -> Float[np.ndarray, "size size"]:
    """1 where changing the factors from `f` to `g` changes the picture, and a margin around it."""
    return change_mask(*render_list([f, g], u, size))


def change_mask(
    source: Float[np.ndarray, "s s 3"], ideal: Float[np.ndarray, "s s 3"]
) -> Float[np.ndarray, "s s"]:
    """1 where two pictures in [0, 1] differ, and a margin around it."""
    return grown(np.abs(source - ideal).max(-1) > CHANGED, source.shape[0])


def grown(mask: np.ndarray, size: int) -> Float[np.ndarray, "size size"]:
    """A mask with its margin, as 0 and 1."""
    margin, wide = max(1, round(MARGIN * size / 64)), mask.copy()
    padded = np.pad(mask, margin)
    for y in range(2 * margin + 1):
        for x in range(2 * margin + 1):
            wide |= padded[y : y + size, x : x + size]
    return wide.astype(np.float32)


def read(picture: Float[np.ndarray, "s s 3"]) -> FreeReading | None:
    """What a picture in [0, 1] shows; None if it is no Flatland picture."""
    size = free_reader.SIZE
    small = jax.image.resize(picture, (size, size, 3), "linear", antialias=True)
    (reading,) = free_reader.read_free(np.asarray(small)[None], marks=True)
    return reading if reading.residual <= MOST_RESIDUAL else None


def told(f: Factors, text: str) -> Factors:
    """`f` with every factor changed that a text names otherwise."""
    named = captions.parse(text)
    for factor in (n for n in fx.FACTOR_NAMES if n in named):
        g = fx.with_factor(f, factor, named[factor]) if named[factor] != getattr(f, factor) else f
        f = g if fx.is_valid(g) else f
    return f
