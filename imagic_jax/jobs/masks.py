"""Masks: where an edit may happen, read from a file and laid over the edited square.

White may change, black is kept, grey mixes. A mask belongs to the whole picture: it is turned
upright, brought to the picture's size and cut as the picture is.
"""

import dataclasses
import functools
import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Float
from PIL import Image as pil
from PIL import ImageFilter

from imagic_jax.errors import UserError
from imagic_jax.jobs import pictures
from imagic_jax.jobs.pictures import Source

_DIM = 128  # masks without a pixel as bright as this are taken for label maps


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskSource:
    """A mask as the command line names it.

    Attributes:
        path: a picture file.
        invert: swap white and black.
        feather: radius of a Gaussian blur of its edges, in pixels of the edited square.
    """

    path: Path
    invert: bool = False
    feather: float = 0.0

    def __post_init__(self) -> None:
        _ = self._data

    @functools.cached_property
    def _data(self) -> bytes:
        return pictures.read_file(self.path, "--mask")

    def __str__(self) -> str:
        inverted = ", inverted" if self.invert else ""
        return self.path.name + inverted + (f", feather {self.feather:g}" if self.feather else "")

    def digest(self) -> str:
        """What decides the mask, for job.json."""
        return f"{hashlib.sha256(self._data).hexdigest()}, {self.invert}, {self.feather:g}"

    def load(self, source: Source) -> tuple[Float[np.ndarray, "s s"], list[str]]:
        """The mask over the edited square, in [0, 1], and what was done to it.

        Raises:
            UserError: it cannot be read, or nothing of the square may change.
        """
        notes: list[str] = []
        mask = self._grey(notes)
        height, width = source.upright.shape[:2]
        if mask.size != (width, height):
            notes.append(_resized(mask, width, height))
            mask = _resize(mask, width, height)
        side = source.square.shape[1]
        cut = pictures.cut(np.asarray(mask.convert("RGB")), source.box).convert("L")
        square = _resize(cut, side, side)
        if self.invert:
            square = square.point(lambda v: 255 - v)
        self._check(np.asarray(square), notes)
        if self.feather:
            square = square.filter(ImageFilter.GaussianBlur(self.feather))
        return np.asarray(square, np.float32) / 255.0, notes

    def _grey(self, notes: list[str]) -> pil.Image:
        """The upright mask, 8-bit grey; dim label maps are stretched."""
        decoded, _ = pictures.decode(self.path, self._data, "--mask", ground=0)
        values = np.asarray(decoded.convert("L"))
        top = int(values.max())
        if not 0 < top < _DIM:
            return pil.fromarray(values)
        notes.append(f"the mask's brightest value is {top} of 255; it counts as white")
        return pil.fromarray(np.uint8(np.round(values * (255.0 / top))))

    def _check(self, values: np.ndarray, notes: list[str]) -> None:
        kind = "white" if self.invert else "black"
        if values.max() < _DIM:
            other = "leave --invert_mask away" if self.invert else "--invert_mask turns it around"
            raise UserError(
                f"--mask: {self.path} is {kind} all over the edited square, so nothing may change;"
                f" {other}, and --crop chooses another square"
            )
        if values.min() >= _DIM:
            notes.append("the mask covers the whole edited square: nothing is held back")


def _resize(mask: pil.Image, width: int, height: int) -> pil.Image:
    """Area means where it shrinks, so that thin parts stay; hard edges where it grows."""
    grows = width >= mask.width and height >= mask.height
    kind = pil.Resampling.NEAREST if grows else pil.Resampling.BOX
    return mask.resize((width, height), kind)


def _resized(mask: pil.Image, width: int, height: int) -> str:
    said = f"the mask is {mask.width} x {mask.height} and the picture {width} x {height}"
    stretched = abs(mask.width * height - mask.height * width) > 0.02 * mask.height * width
    return f"{said}: the mask was {'stretched' if stretched else 'resized'} to fit"
