"""`index.html` of a comparison: several methods on several pictures, on one self-contained page."""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from PIL import Image as pil

from imagic_jax.report.page import document, figure, table


class Shown(NamedTuple):
    """One picture of a method."""

    strength: str  # "eta 0.7"
    seed: int
    picture: pil.Image
    input_psnr: float  # dB, to the input
    outside_psnr: float | None  # the same outside the mask


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One method on one picture.

    Attributes:
        name, title, paper: of the method.
        folder: of the edit, below the comparison's.
        used: what it was given beside picture and text.
        shown: its pictures, strengths slowest.
        fit_evaluations, render_evaluations: of the base's network: in all, and per picture for
            each strength.
        compile_s, fit_s, picture_s: seconds compiling, fitting or inverting, and per picture.
        warnings: of the edit.
    """

    name: str
    title: str
    paper: str
    folder: str
    used: tuple[str, ...]
    shown: tuple[Shown, ...]
    fit_evaluations: int
    render_evaluations: tuple[int, ...]
    compile_s: float
    fit_s: float
    picture_s: float
    warnings: tuple[str, ...] = ()

    def numbers(self) -> dict[str, Any]:
        """All but the pictures, as JSON values."""
        found = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        found["shown"] = [
            {k: v for k, v in s._asdict().items() if k != "picture"} for s in self.shown
        ]
        return found


class Panel(NamedTuple):
    """One picture under all methods."""

    text: str
    said: str  # what was given besides, in a line
    beside: dict[str, pil.Image]  # input, mask
    entries: tuple[Entry, ...]


_STYLE = """<style>
body { max-width: 82rem; }
.method { display: flex; flex-wrap: wrap; gap: .6rem; margin: .8rem 0; }
.method h3 { font-size: 1rem; margin: 0; width: 9rem; }
.method h3 span { display: block; font-weight: 400; font-size: .85rem; color: var(--faint); }
.method figure { width: 11rem; }
.wide { overflow-x: auto; }
</style>"""

_EXPLAINED = (
    "From left to right each method edits more, by its own measure. PSNR is to the input: more of"
    " it means that less was changed, wanted or not."
)
_HEAD = (
    "method",
    "given besides",
    "PSNR to the input",
    "outside the mask",
    "evaluations to fit",
    "per picture",
    "seconds compiling",
    "fitting",
    "per picture",
)


def comparison_page(panels: Sequence[Panel], about: Mapping[str, Any]) -> str:
    """The page.

    Args:
        panels: one per picture.
        about: its "model", "random_weights", "preset" and "device".
    """
    warning = ""
    if about["random_weights"]:
        warning = '<p class="warn">RANDOM WEIGHTS: the times are real, the pictures no edits.</p>'
    where = f"Model {about['model']}, preset {about['preset']}, on {about['device']}."
    body = (
        f'{_STYLE}<p class="sub">{html.escape(where)} {_EXPLAINED}</p>'
        f"{warning}{''.join(_panel(p) for p in panels)}{_papers(panels)}"
    )
    return document("Editing methods compared", body)


def _panel(panel: Panel) -> str:
    given = "".join(figure(p, name) for name, p in panel.beside.items())
    methods = "".join(_method(e) for e in panel.entries)
    said = f'<p class="sub">{html.escape(panel.said)}</p>' if panel.said else ""
    rows = [_row(e) for e in panel.entries]
    warnings = "".join(f'<p class="warn">{html.escape(w)}</p>' for w in _warnings(panel))
    return (
        f"<h2>“{html.escape(panel.text)}”</h2>{said}"
        f'<div class="method"><h3>Given</h3>{given}</div>{methods}'
        f'<div class="wide">{table(rows, _HEAD)}</div>{warnings}'
    )


def _warnings(panel: Panel) -> list[str]:
    """Every warning once: behind the method's title, unless it holds for all."""
    said: dict[str, list[str]] = {}
    for entry in panel.entries:
        for warning in entry.warnings:
            said.setdefault(warning, []).append(entry.title)
    return [
        w if len(titles) == len(panel.entries) else f"{', '.join(titles)}: {w}"
        for w, titles in said.items()
    ]


def _method(entry: Entry) -> str:
    """A method's pictures in a row, behind its name."""
    pictures = "".join(figure(s.picture, _caption(s, entry)) for s in entry.shown)
    used = f"<span>with {html.escape(', '.join(entry.used))}</span>" if entry.used else ""
    name = html.escape(entry.title)
    return f'<div class="method"><h3>{name}{used}</h3>{pictures}</div>'


def _caption(shown: Shown, entry: Entry) -> str:
    seeds = {s.seed for s in entry.shown}
    seed = f", seed {shown.seed}" if len(seeds) > 1 else ""
    return f"{shown.strength}{seed}: {shown.input_psnr:.1f} dB"


def _row(entry: Entry) -> list[str]:
    outside = [s.outside_psnr for s in entry.shown if s.outside_psnr is not None]
    return [
        entry.title,
        ", ".join(entry.used) or "nothing",
        _span([s.input_psnr for s in entry.shown], 1) + " dB",
        _span(outside, 1) + " dB" if outside else "",
        f"{entry.fit_evaluations}",
        _span(entry.render_evaluations, 0),
        f"{entry.compile_s:.1f}",
        f"{entry.fit_s:.1f}",
        f"{entry.picture_s:.2f}",
    ]


def _span(values: Sequence[int | float], digits: int) -> str:
    """From the least to the most, or the one value that all have."""
    low, high = min(values), max(values)
    if math.isclose(low, high, abs_tol=0.5 * 10.0**-digits):
        return f"{high:.{digits}f}"
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _papers(panels: Sequence[Panel]) -> str:
    named = dict.fromkeys((e.title, e.name, e.paper) for p in panels for e in p.entries)
    links = [
        f'<a href="{quote(e.folder)}/index.html">{html.escape(e.folder)}</a>'
        for p in panels
        for e in p.entries
    ]
    return (
        f"<h2>Methods</h2>{table(list(named), ('method', '--method', 'paper'))}"
        f"<p>Each edit has a page of its own: {', '.join(links)}</p>"
    )
