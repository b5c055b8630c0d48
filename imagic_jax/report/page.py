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
.row[hidden] { display: none; }
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


def table(rows: Sequence[Sequence[Any]], head: Sequence[str] = ()) -> str:
    """An HTML table; cells are escaped."""

    def line(cells: Sequence[Any], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(str(c))}</{tag}>" for c in cells) + "</tr>"

    return (
        "<table>"
        + (line(head, "th") if head else "")
        + "".join(line(r, "td") for r in rows)
        + "</table>"
    )


def edit_page(
    beside: Mapping[str, pil.Image],
    pictures: np.ndarray,
    result: Mapping[str, Any],
    headline: str,
    numbers: Sequence[tuple[str, str]],
    command: str,
) -> str:
    """The page of one edit.

    Args:
        beside: the input (and the mask) at the model's size, by caption.
        pictures: object array (strengths, seeds) of Pillow images.
        result: what result.json holds.
        headline: which method, and what its strength means.
        numbers: the method's own rows of the table.
        command: how to render this fit again.
    """
    warnings = "".join(f'<p class="warn">{html.escape(w)}</p>' for w in result["warnings"])
    blocks = "".join(
        _seed_block(beside, pictures[:, s], result, s) for s in range(len(result["seeds"]))
    )
    rows = [
        *numbers,
        ("model", result["model"]),
        ("preset", result["preset"]),
        ("seed of the fit", result["seed"]),
        ("device", result["device"]),
    ]
    timings = [
        [t["name"], t["steps"], f"{t['compile_s']:.1f}", f"{t['run_s']:.1f}", f"{t['total_s']:.1f}"]
        for t in result["timings"]["stages"]
    ]
    return document(
        f"“{result['text']}”",
        f"""<p class="sub">{html.escape(headline)}</p>
{warnings}{_chosen(result.get("eta_choice"))}{blocks}
<h2>Numbers</h2>{table(rows)}
<h2>Seconds</h2>{table(timings, ("stage", "steps", "compiling", "running", "all"))}
<p>Other amounts, seeds or guidance, without fitting again: <code>{html.escape(command)}</code></p>
<script>{_SCRIPT}</script>""",
    )


def document(title: str, body: str) -> str:
    """A whole page: its title above `body`, which is HTML."""
    text = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text}</title><style>{_STYLE}</style></head><body>
<h1>{text}</h1>
{body}</body></html>
"""


def figure(picture: pil.Image, caption: str) -> str:
    """A picture with its caption."""
    said = html.escape(caption, quote=True)
    image = f'<img alt="{said}" src="{data_uri(picture)}">'
    return f"<figure>{image}<figcaption>{said}</figcaption></figure>"


def _seed_block(
    beside: Mapping[str, pil.Image], column: np.ndarray, result: Mapping[str, Any], s: int
) -> str:
    """One seed: what was given, a large picture with a slider, and all strengths in a row."""
    knob, strengths, seed = result["knob"], result["strengths"], result["seeds"][s]
    given = "".join(figure(p, name) for name, p in beside.items())
    small = "".join(
        f'<figure><img id="p{e}_{s}" alt="{knob} {v:g}, seed {seed}"'
        f' src="{data_uri(column[e])}"><figcaption>{knob} {v:g}</figcaption></figure>'
        for e, v in enumerate(strengths)
    )
    shown, last = _first_shown(result, s), len(strengths) - 1
    hidden = " hidden" if len(strengths) == 1 else ""
    return (
        f"<h2>Seed {seed}</h2>"
        f'<div class="pair">{given}'
        f'<figure><img id="large_{s}" alt=""><figcaption id="label_{s}"></figcaption>'
        f'<input type="range" min="0" max="{last}" value="{shown}" data-seed="{s}"'
        f' aria-label="amount of the edit for seed {seed}"{hidden}></figure></div>'
        f'<div class="row"{hidden}>{small}</div>'
    )


def _first_shown(result: Mapping[str, Any], s: int) -> int:
    """Which strength a seed's large picture shows first: the chosen one, else the middle one."""
    strengths = result["strengths"]
    rows = result.get("eta_choice", {}).get("seeds", [])
    eta = rows[s]["eta"] if rows else None
    return len(strengths) // 2 if eta is None else strengths.index(eta)


def _chosen(choice: Mapping[str, Any] | None) -> str:
    """What `--eta=auto` found: the reasons, and the curve of every seed."""
    if choice is None:
        return ""
    parts = ["<h2>Chosen eta</h2>"]
    for row in choice["seeds"]:
        reason = html.escape(f"Seed {row['seed']}: {row['reason']}.")
        head = ["", *(f"eta {e:g}" for e in choice["etas"])]
        body = [
            [name, *("-" if v is None else f"{v:.3g}" for v in row[key])]
            for name, key in ((choice["alignment"], "alignment"), (choice["fidelity"], "fidelity"))
        ]
        parts.append(f'<p>{reason}</p><div style="overflow-x: auto">{table(body, head)}</div>')
    if best := choice.get("best"):
        told = html.escape(f"eta {best['eta']:g}, seed {best['seed']}: {best['reason']}.")
        parts.append(f"<p>Best by score: {told}</p>")
    return "".join(parts)
