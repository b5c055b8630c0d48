"""`index.html` of a comparison: several methods on several pictures, on one self-contained page."""

import dataclasses
import html
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PIL import Image as pil

from imagic_jax.report.page import data_uri, document, figure, table


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
body { max-width: 80rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: 1rem; }
.cards h3 { font-size: 1rem; margin: .4rem 0 .2rem; }
.wide { overflow-x: auto; }
</style>"""

_SCRIPT = """<script>
for (const slider of document.querySelectorAll('input[type=range]')) {
  const card = slider.closest('.card');
  const kept = card.querySelectorAll('.kept img');
  const show = () => {
    const chosen = kept[slider.value];
    const large = card.querySelector('.large');
    large.src = chosen.src;
    large.alt = chosen.alt;
    card.querySelector('figcaption').textContent = chosen.alt;
  };
  slider.addEventListener('input', show);
  show();
}
</script>"""

_EXPLAINED = (
    "The sliders move through each method's own measure of how much is edited. PSNR is to the"
    " input: more of it means that less was changed, wanted or not."
)
_HEAD = (
    "method",
    "given besides",
    "PSNR to the input",
    "outside the mask",
    "evaluations to fit",
    "per picture",
    "s compiling",
    "s fitting",
    "s per picture",
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
    methods = dict.fromkeys(e.name for p in panels for e in p.entries)
    body = (
        f'{_STYLE}<p class="sub">{html.escape(where)} {_EXPLAINED}</p>'
        f"{warning}{''.join(_panel(p) for p in panels)}{_papers(panels)}{_SCRIPT}"
    )
    return document(f"{len(methods)} editing methods compared", body)


def _panel(panel: Panel) -> str:
    given = "".join(figure(p, name) for name, p in panel.beside.items())
    cards = "".join(_card(e) for e in panel.entries)
    said = f'<p class="sub">{html.escape(panel.said)}</p>' if panel.said else ""
    rows = [_row(e) for e in panel.entries]
    warnings = "".join(
        f'<p class="warn">{html.escape(f"{e.title}: {w}")}</p>'
        for e in panel.entries
        for w in e.warnings
    )
    return (
        f"<h2>“{html.escape(panel.text)}”</h2>{said}"
        f'<div class="cards">{given}{cards}</div>'
        f'<div class="wide">{table(rows, _HEAD)}</div>{warnings}'
    )


def _card(entry: Entry) -> str:
    """A method's pictures: one large, chosen by the slider, the others kept beside it unseen."""
    kept = "".join(
        f'<img alt="{html.escape(_caption(s, entry))}" src="{data_uri(s.picture)}">'
        for s in entry.shown
    )
    last = len(entry.shown) - 1
    hidden = " hidden" if last == 0 else ""
    title = html.escape(entry.title)
    return (
        f'<div class="card"><figure><img class="large" alt="{title}"'
        f' src="{data_uri(entry.shown[last // 2].picture)}"><h3>{title}</h3>'
        f"<figcaption></figcaption></figure>"
        f'<input type="range" min="0" max="{last}" value="{(last + 1) // 2}"'
        f' aria-label="amount of the edit by {title}"{hidden}>'
        f'<div class="kept" hidden>{kept}</div></div>'
    )


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


def _span(values: Sequence[float], digits: int) -> str:
    """From the least to the most, or the one value that all have."""
    low, high = min(values), max(values)
    if math.isclose(low, high, abs_tol=0.5 * 10.0**-digits):
        return f"{high:.{digits}f}"
    return f"{low:.{digits}f} to {high:.{digits}f}"


def _papers(panels: Sequence[Panel]) -> str:
    named = dict.fromkeys((e.title, e.name, e.paper) for p in panels for e in p.entries)
    folders = [e.folder for p in panels for e in p.entries]
    return (
        f"<h2>Methods</h2>{table(list(named), ('method', '--method', 'paper'))}"
        "<p>Each edit has a page of its own, in the folders beside this page: "
        f"<code>{html.escape(', '.join(folders))}</code></p>"
    )
