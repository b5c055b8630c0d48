"""Reading any picture file into a square model input, and putting results back where it was cut.

Everything that is done to a picture is said in `Source.notes`: converted modes, dropped alpha,
turned by EXIF, cropped or padded.
"""

import hashlib
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as pil
from PIL import ImageOps, UnidentifiedImageError

from imagic_jax.errors import UserError
from imagic_jax.runtime.paths import AnyPath

SMALLEST = 16  # pixels of the shorter side
MOST_PIXELS = 200_000_000
_LONG = 4.0  # wider or higher than this many times the other side is worth a note


class Box(NamedTuple):
    """The square that is edited, in pixels of the upright picture; may reach over its edges."""

    left: int
    top: int
    side: int


class Source(NamedTuple):
    """A picture ready for a model."""

    upright: UInt8[np.ndarray, "h w 3"]  # the whole picture, RGB, turned as EXIF says
    square: Float[np.ndarray, "1 s s 3"]  # the edited square at the model's size, [-1, 1]
    box: Box
    digest: str  # SHA-256 of the file
    notes: tuple[str, ...]


def load_source(path: str | AnyPath, size: int, crop: str = "center") -> Source:
    """Reads a picture file and cuts out the square to be edited.

    Args:
        path: any format that Pillow reads.
        size: pixels per side that the model wants.
        crop: "center", "pad" (the whole picture, edges continued) or "LEFT,TOP,SIDE".

    Raises:
        UserError: no such file, no picture, cut off, too small, too large, or a bad crop.
    """
    path = Path(path) if isinstance(path, str) else path
    data = read_file(path)
    picture, notes = decode(path, data)
    upright = np.asarray(picture)
    box = choose_box(crop, picture.width, picture.height)
    if crop == "center" and max(picture.size) > _LONG * min(picture.size):
        share = min(picture.size) / max(picture.size)
        notes.append(
            f"the picture is {picture.width} x {picture.height}; only its middle {share:.0%} is"
            " edited (--crop=pad takes all of it, --crop=LEFT,TOP,SIDE another part)"
        )
    if min(picture.size) < size:
        notes.append(f"the picture is smaller than the model's {size} pixels and was enlarged")
    square = cut(upright, box).resize((size, size), pil.Resampling.LANCZOS)
    array = np.asarray(square, np.float32)[None] / 127.5 - 1.0
    return Source(upright, array, box, hashlib.sha256(data).hexdigest(), tuple(notes))


def read_file(path: AnyPath, flag: str = "--image") -> bytes:
    """The bytes of a file that `flag` names.

    Raises:
        UserError: there is none, or it cannot be read.
    """
    if not path.exists():
        raise UserError(f"{flag}: there is no file {path}")
    if path.is_dir():
        raise UserError(f"{flag}: {path} is a folder; name one picture file in it")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{flag}: {path} cannot be read ({error.strerror})") from error
    if not data:
        raise UserError(f"{flag}: {path} is empty")
    return data


def decode(
    path: AnyPath, data: bytes, flag: str = "--image", ground: int = 255
) -> tuple[pil.Image, list[str]]:
    """The upright RGB picture, and what was done to it; `ground` is the grey behind transparency.

    Raises:
        UserError: no picture, cut off, too small or too large.
    """
    notes: list[str] = []
    try:
        with pil.open(io.BytesIO(data)) as opened:
            width, height = opened.size
            if width * height > MOST_PIXELS:
                raise UserError(
                    f"{flag}: {path} has {width} x {height} pixels, more than"
                    f" {MOST_PIXELS // 10**6} million; make it smaller first"
                )
            if min(width, height) < SMALLEST:
                raise UserError(
                    f"{flag}: {path} has {width} x {height} pixels; the shorter side must have"
                    f" at least {SMALLEST}"
                )
            if getattr(opened, "n_frames", 1) > 1:
                notes.append("the picture is animated; its first frame is edited")
            opened.load()
            turned = ImageOps.exif_transpose(opened)
            if turned.size != opened.size or opened.getexif().get(0x0112, 1) != 1:
                notes.append("the picture was turned upright as its EXIF data says")
            return _to_rgb(turned, notes, ground), notes
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{flag}: {path} is no picture (PNG, JPEG, WebP, ...)") from error
    except pil.DecompressionBombError as error:
        raise UserError(f"{flag}: {path} has too many pixels; make it smaller first") from error
    except Exception as error:  # a broken file fails in many ways inside the decoders
        raise UserError(
            f"{flag}: {path} is broken or cut off and cannot be decoded ({error})"
        ) from error


def _to_rgb(picture: pil.Image, notes: list[str], ground: int) -> pil.Image:
    """8-bit RGB: transparency onto `ground`, 16 bits and floats scaled, other modes converted."""
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode in ("RGBA", "LA", "PA") or "transparency" in picture.info:
        notes.append("transparent parts were put on white")
        rgba = picture.convert("RGBA")
        behind = pil.new("RGBA", rgba.size, (ground, ground, ground, 255))
        return pil.alpha_composite(behind, rgba).convert("RGB")
    notes.append(f"the picture was converted from {picture.mode} to RGB")
    if picture.mode.startswith(("I", "F")):
        values = np.nan_to_num(np.asarray(picture, np.float64), posinf=0.0, neginf=0.0)
        top = 65535.0 if picture.mode.startswith("I") else float(values.max())
        if picture.mode == "I" and values.max() > 65535:
            top = float(values.max())
        scaled = np.clip(values / (top or 1.0) * 255.0, 0, 255)
        return pil.fromarray(scaled.round().astype(np.uint8)).convert("RGB")
    return picture.convert("RGB")


def digest(path: AnyPath) -> str:
    """SHA-256 of a picture's file.

    Raises:
        OSError: it cannot be read.
    """
    return hashlib.sha256(path.read_bytes()).hexdigest()


def choose_box(crop: str, width: int, height: int) -> Box:
    """The square that `crop` means in a picture of this size.

    Raises:
        UserError: the crop is no known word, no three numbers, or not inside the picture.
    """
    if crop == "center":
        side = min(width, height)
        return Box((width - side) // 2, (height - side) // 2, side)
    if crop == "pad":
        side = max(width, height)
        return Box((width - side) // 2, (height - side) // 2, side)
    try:
        left, top, side = (int(v) for v in crop.split(","))
    except ValueError as error:
        raise UserError(
            f"--crop={crop!r} is not understood; use center, pad or LEFT,TOP,SIDE in pixels"
        ) from error
    inside = left >= 0 and top >= 0 and left + side <= width and top + side <= height
    if side < SMALLEST or not inside:
        raise UserError(
            f"--crop={crop} is not a square of at least {SMALLEST} pixels inside the picture"
            f" of {width} x {height}"
        )
    return Box(left, top, side)


def cut(upright: np.ndarray, box: Box) -> pil.Image:
    """The box of the picture; where it reaches over the edge, the edge pixels go on."""
    rows = np.clip(np.arange(box.top, box.top + box.side), 0, upright.shape[0] - 1)
    columns = np.clip(np.arange(box.left, box.left + box.side), 0, upright.shape[1] - 1)
    return pil.fromarray(np.ascontiguousarray(upright[rows[:, None], columns]))


def paste_back(source: Source, edited: Float[np.ndarray, "s s 3"]) -> pil.Image:
    """The whole upright picture with the edited square ([-1, 1]) scaled back into its place."""
    box = source.box
    square = to_pil(edited).resize((box.side, box.side), pil.Resampling.LANCZOS)
    whole = pil.fromarray(source.upright.copy())
    whole.paste(square, (box.left, box.top))
    return whole


def to_pil(picture: Float[np.ndarray, "h w 3"]) -> pil.Image:
    """A picture in [-1, 1] as an 8-bit RGB image."""
    values = np.clip((np.asarray(picture, np.float32) + 1.0) * 127.5, 0.0, 255.0)
    return pil.fromarray(values.round().astype(np.uint8))


def grey(mask: Float[np.ndarray, "h w"]) -> pil.Image:
    """A mask in [0, 1] as an 8-bit grey image."""
    return pil.fromarray(np.uint8(np.round(np.clip(mask, 0.0, 1.0) * 255.0)))
