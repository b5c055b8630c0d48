"""`index.html` of a list of edits: a strip per edit, linked to its own page."""

import html
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from imagic_jax.report.page import document


def list_page(counts: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The page; pictures and links are named from the folder that it lies in.

    Args:
        counts: how many edits there are of each kind, in words.
        rows: as in summary.json.
    """
    blocks = "".join(_block(row) for row in rows)
    return document(f"{len(rows)} edits", f'<p class="sub">{html.escape(counts)}</p>{blocks}')


def _facts(row: Mapping[str, Any]) -> str:
    if row["reconstruction_psnr"] is None:
        return ""
    moved = f"embedding moved by {row['embedding_distance']:.3f}"
    return f"; {row['reconstruction_psnr']:.1f} dB at eta 0, {moved}"


def _block(row: Mapping[str, Any]) -> str:
    title = html.escape(f"{row['line']}. {row['image']}: “{row['text']}”")
    if not row["strengths"]:
        words = f"{row['status']}: {row['error']}" if row["error"] else row["status"]
        return f'<h2>{title}</h2><p class="warn">{html.escape(words)}</p>'
    folder = quote(row["folder"])
    warned = f", {row['warnings']} warnings" if row["warnings"] else ""
    return (
        f'<h2><a href="{folder}/index.html">{title}</a></h2>'
        f'<a href="{folder}/index.html"><img loading="lazy" alt="{title}"'
        f' src="{folder}/strip.png"></a>'
        f'<p class="sub">{row["status"]}{_facts(row)}{warned}</p>'
    )
