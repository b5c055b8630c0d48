"""Masks: where an edit may happen, from a file or drawn from what a Flatland picture shows.

White may change, black is kept, grey mixes. A mask file belongs to the whole picture: it is turned
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
from imagic_jax.flatland import masks as flatland
from imagic_jax.jobs import pictures
from imagic_jax.jobs.pictures import Source

_DIM = 128  # masks without a pixel as bright as this are taken for label maps


#: Masks that are drawn: what the command line calls them, and what they cover.
DRAWN = {
    "flatland:subject": "the subject of a Flatland picture",
    "flatland:change": "what the text changes in a Flatland picture",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaskSource:
    """A mask as the command line names it.

    Attributes:
        name: a picture file, or one of `DRAWN`.
        invert: swap white and black.
        feather: radius of a Gaussian blur of its edges, in pixels of the edited square.
    """

    name: str
    invert: bool = False
    feather: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in DRAWN:
            if self.name.split(":")[0] == "flatland":
                raise UserError(f"--mask: {self.name} is none of {', '.join(DRAWN)}")
            _ = self._data  # a file that cannot be read fails at once

    @functools.cached_property
    def _data(self) -> bytes:
        return pictures.read_file(Path(self.name), "--mask")

    def __str__(self) -> str:
        name = self.name if self.name in DRAWN else Path(self.name).name
        inverted = ", inverted" if self.invert else ""
        return name + inverted + (f", feather {self.feather:g}" if self.feather else "")

    def digest(self) -> str:
        """What decides the mask besides picture and text, for job.json."""
        what = self.name if self.name in DRAWN else hashlib.sha256(self._data).hexdigest()
        return f"{what}, {self.invert}, {self.feather:g}"

    def load(self, source: Source, text: str) -> tuple[Float[np.ndarray, "s s"], list[str]]:
        """The mask over the edited square, in [0, 1], and what was done to it.

        Args:
            source: the picture.
            text: what it shall show; read for "flatland:change".

        Raises:
            UserError: it cannot be read or drawn, or nothing of the square may change.
        """
        notes: list[str] = []
        square = self._drawn(source, text) if self.name in DRAWN else self._cut(source, notes)
        if self.invert:
            square = square.point(lambda v: 255 - v)
        self._check(np.asarray(square), notes)
        if self.feather:
            square = square.filter(ImageFilter.GaussianBlur(self.feather))
        return np.asarray(square, np.float32) / 255.0, notes

    def _drawn(self, source: Source, text: str) -> pil.Image:
        """Drawn from the factors that are read in the edited square."""
        picture = np.clip((source.square[0] + 1.0) / 2.0, 0.0, 1.0)
        reading = flatland.read(picture)
        if reading is None:
            raise UserError(
                f"--mask={self.name}: this is no Flatland picture; give a mask as a file"
            )
        f, u, size = reading.factors, reading.nuisance, picture.shape[0]
        if self.name == "flatland:subject":
            return pictures.grey(flatland.subject_mask(f, u, size))
        target = flatland.told(f, text)
        if target == f:
            raise UserError(
                f"--mask={self.name}: “{text}” is true of this picture already, so nothing"
                " changes; give another text, or --mask=flatland:subject"
            )
        return pictures.grey(flatland.edit_mask(f, target, u, size))

    def _cut(self, source: Source, notes: list[str]) -> pil.Image:
        """The mask file over the edited square."""
        mask = self._grey(notes)
        height, width = source.upright.shape[:2]
        if mask.size != (width, height):
            notes.append(_resized(mask, width, height))
            mask = _resize(mask, width, height)
        side = source.square.shape[1]
        cut = pictures.cut(np.asarray(mask.convert("RGB")), source.box).convert("L")
        return _resize(cut, side, side)

    def _grey(self, notes: list[str]) -> pil.Image:
        """The upright mask, 8-bit grey; dim label maps are stretched."""
        decoded, _ = pictures.decode(Path(self.name), self._data, "--mask", ground=0)
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
                f"--mask: {self.name} is {kind} all over the edited square, so nothing may change;"
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
