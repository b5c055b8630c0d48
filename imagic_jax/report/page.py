"""`index.html` of an edit: one self-contained page that opens from disk."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image as pil

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --faint: #777; --warn: #b35c00; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .6rem; }
p.sub { color: var(--faint); margin: 0 0 1.2rem; }
img { display: block; width: 100%; image-rendering: pixelated; border-radius: 4px; }
.pair { display: flex; gap: 1.2rem; flex-wrap: wrap; }
.pair figure { flex: 1 1 16rem; max-width: 26rem; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); gap: .6rem; }
figure { margin: 0; } figcaption { color: var(--faint); font-size: .85rem; padding-top: .2rem; }
input[type=range] { width: 100%; }
.warn { border-left: 4px solid var(--warn); padding: .3rem .8rem; margin: .5rem 0; }
table { border-collapse: collapse; } td, th { padding: .2rem 1rem .2rem 0; text-align: left;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
th { font-weight: 600; }
code { font-size: .9em; overflow-wrap: anywhere; }
"""

_SCRIPT = """
for (const slider of document.querySelectorAll('input[type=range]')) {
  const show = () => {
    const chosen = document.getElementById('p' + slider.value + '_' + slider.dataset.seed);
    const large = document.getElementById('large_' + slider.dataset.seed);
    large.src = chosen.src;
    large.alt = chosen.alt;
    document.getElementById('label_' + slider.dataset.seed).textContent = chosen.alt;
  };
  slider.addEventListener('input', show);
  show();
}
"""


def data_uri(picture: pil.Image) -> str:
    """A picture as a PNG inside a `data:` address."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> str:
    def line(cells: Sequence[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return (
        "<table>"
        + (line(head, "th") if head else "")
        + "".join(line(r, "td") for r in rows)
        + "</table>"
    )


def edit_page(
    source: pil.Image, pictures: np.ndarray, result: Mapping[str, Any], command: str
) -> str:
    """The page of one edit.

    Args:
        source: the input square at the model's size.
        pictures: object array (etas, seeds) of Pillow images.
        result: what result.json holds.
        command: how to render this fit again.
    """
    etas, seeds = result["etas"], result["seeds"]
    warnings = "".join(f'<p class="warn">{html.escape(w)}</p>' for w in result["warnings"])
    middle = min(range(len(etas)), key=lambda i: abs(etas[i] - 0.7))
    blocks = []
    for s, seed in enumerate(seeds):
        small = "".join(
            f'<figure><img id="p{e}_{s}" alt="eta {eta:g}, seed {seed}"'
            f' src="{data_uri(pictures[e, s])}"><figcaption>eta {eta:g}</figcaption></figure>'
            for e, eta in enumerate(etas)
        )
        blocks.append(
            f"<h2>Seed {seed}</h2>"
            f'<div class="pair"><figure><img alt="input" src="{data_uri(source)}">'
            f"<figcaption>input</figcaption></figure>"
            f'<figure><img id="large_{s}" alt=""><figcaption id="label_{s}"></figcaption>'
            f'<input type="range" min="0" max="{len(etas) - 1}" value="{middle}" data-seed="{s}"'
            f' aria-label="amount of the edit for seed {seed}"></figure></div>'
            f'<div class="row">{small}</div>'
        )
    numbers = [
        ("reconstruction at eta = 0", f"{result['reconstruction_psnr']:.1f} dB PSNR"),
        ("moved embedding, ||e_opt - e_tgt|| / ||e_tgt||", f"{result['embedding_distance']:.3f}"),
        ("model", result["model"]),
        ("preset", result["preset"]),
        ("seed of the fit", result["seed"]),
        ("device", result["device"]),
    ]
    timings = [
        [t["name"], t["steps"], f"{t['compile_s']:.1f}", f"{t['run_s']:.1f}", f"{t['total_s']:.1f}"]
        for t in result["timings"]["stages"]
    ]
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(result["text"])}</title><style>{_STYLE}</style></head><body>
<h1>“{html.escape(result["text"])}”</h1>
<p class="sub">Edited with Imagic. eta = 0 is the picture, eta = 1 follows the text.</p>
{warnings}{"".join(blocks)}
<h2>Numbers</h2>{_table(numbers)}
<h2>Seconds</h2>{_table(timings, ("stage", "steps", "compiling", "running", "all"))}
<p>Other amounts, seeds or guidance, without fitting again: <code>{html.escape(command)}</code></p>
<script>{_SCRIPT}</script></body></html>
"""
