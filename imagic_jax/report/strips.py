"""Strips and grids of labelled pictures, as Pillow images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image as pil
from PIL import ImageDraw, ImageFont

PAPER, INK, FAINT = (255, 255, 255), (32, 33, 36), (118, 120, 125)
_GAP, _HEAD = 6, 26


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def enlarge(picture: pil.Image, least: int = 160) -> pil.Image:
    """Small pictures made visible: whole-number nearest-neighbour zoom to at least `least`."""
    zoom = max(1, -(-least // max(picture.width, 1)))
    return picture.resize((picture.width * zoom, picture.height * zoom), pil.Resampling.NEAREST)


def grid(
    rows: Sequence[Sequence[pil.Image]],
    columns: Sequence[str],
    labels: Sequence[str] = (),
    title: str = "",
) -> pil.Image:
    """A table of equally large pictures with headings above and labels on the left.

    Args:
        rows: pictures, row by row; the last row may be shorter.
        columns: a heading per column.
        labels: a label per row, of one or more lines (none: no room is left for them).
        title: one line above everything.
    """
    width, height = rows[0][0].size
    lines = [line for label in labels for line in label.split("\n")]
    left = _GAP + round(max((_font(13).getlength(t) + _GAP for t in lines), default=0))
    top = _HEAD + (_HEAD if title else 0)
    sheet = pil.new(
        "RGB",
        (left + len(columns) * (width + _GAP), top + len(rows) * (height + _GAP)),
        PAPER,
    )
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((_GAP, 6), _fitting(title, sheet.width - 2 * _GAP, 15), INK, _font(15))
    for j, heading in enumerate(columns):
        x = left + j * (width + _GAP) + width / 2
        pen.text((x, top - 9), heading, FAINT, _font(13), anchor="ms")
    for i, row in enumerate(rows):
        y = top + i * (height + _GAP)
        if labels:
            middle = (left - _GAP, y + height / 2)
            pen.multiline_text(middle, labels[i], FAINT, _font(13), anchor="rm", align="right")
        for j, picture in enumerate(row):
            sheet.paste(picture, (left + j * (width + _GAP), y))
    return sheet


def _fitting(text: str, width: int, size: int) -> str:
    """`text`, cut with an ellipsis where it is wider than `width` pixels."""
    font = _font(size)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def edit_strip(
    beside: Mapping[str, pil.Image],
    pictures: np.ndarray,
    result: Mapping[str, Any],
    title: str,
) -> pil.Image:
    """What was given, then one column per strength; one row per seed.

    Args:
        beside: the input (and the mask) at the model's size, by heading.
        pictures: object array (strengths, seeds) of Pillow images.
        result: its "knob", "strengths" and "seeds".
        title: the target text.
    """
    knob, strengths, seeds = (result[n] for n in ("knob", "strengths", "seeds"))
    given = [enlarge(p) for p in beside.values()]
    rows = [
        [*given, *(enlarge(pictures[e, s]) for e in range(len(strengths)))]
        for s in range(len(seeds))
    ]
    labels = [f"seed {s}" for s in seeds] if len(seeds) > 1 else ()
    heads = [*beside, *(f"{knob} {v:g}" for v in strengths)]
    return grid(rows, heads, labels, f"“{title}”")
