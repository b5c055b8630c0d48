"""`report.html` of a benchmark: one self-contained page with tables, figures and pictures."""

import html
import re
from collections.abc import Mapping, Sequence

from PIL import Image as pil

from imagic_jax.report.page import data_uri, document, table

_MORE = """
body { max-width: 84rem; } .wide { overflow-x: auto; } .wide table { white-space: nowrap; }
td, th { padding: .2rem .8rem .2rem 0; vertical-align: top; } .plots { display: grid; gap: 1.4rem;
  grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); }
.plots svg { width: 100%; height: auto; background: #fff; border-radius: 4px; }
img.sheet { width: auto; max-width: 100%; } ul.notes { color: var(--faint); padding-left: 1.2rem; }
"""

_SENTENCE = 90  # characters; longer cells are words, not numbers, and may be broken into lines


def benchmark_page(
    title: str,
    notes: Sequence[str],
    problems: Sequence[str],
    tables: Mapping[str, tuple[Sequence[str], Sequence[Sequence[str]]]],
    figures: Mapping[str, str],
    sheets: Mapping[str, pil.Image],
) -> str:
    """The page as HTML.

    Args:
        title: of the page.
        notes: about the run.
        problems: what is missing or broken.
        tables: (head, body) by title.
        figures: SVG documents by caption.
        sheets: pictures by caption.
    """
    parts = [f"<style>{_MORE}</style>", _list(notes, "notes")]
    parts += [f'<p class="warn">{html.escape(p)}</p>' for p in problems]
    for caption, (head, body) in tables.items():
        parts.append(f"<h2>{html.escape(caption)}</h2>")
        words = any(len(cell) > _SENTENCE for row in body for cell in row)
        parts.append(f'<div class="{"said" if words else "wide"}">{table(body, head)}</div>')
    if figures:
        parts.append('<h2>Figures</h2><div class="plots">')
        for i, (caption, svg) in enumerate(figures.items()):
            said = html.escape(caption)
            parts.append(f"<figure>{inline(svg, i)}<figcaption>{said}</figcaption></figure>")
        parts.append("</div>")
    for caption, sheet in sheets.items():
        said = html.escape(caption)
        parts.append(f'<h2>{said}</h2><img class="sheet" alt="{said}" src="{data_uri(sheet)}">')
    return document(title, "".join(parts))


def inline(svg: str, number: int) -> str:
    """An SVG document to be put into a page: no prologue, and ids that no other figure has."""
    body = svg[svg.index("<svg") :]
    ids = set(re.findall(r'\bid="([^"]+)"', body))

    def renamed(match: re.Match[str]) -> str:
        start, name, end = match.groups()
        return f"{start}f{number}-{name}{end}" if name in ids else match[0]

    return re.sub(r'(\bid="|href="#|url\(#)([^")]+)("|\))', renamed, body)


def _list(lines: Sequence[str], kind: str) -> str:
    entries = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f'<ul class="{kind}">{entries}</ul>' if lines else ""
