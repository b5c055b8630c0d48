"""The page of a user study: `study.html` with a design in it."""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any

_PLACE = "/*DESIGN*/ null"


def study_page(design: Mapping[str, Any]) -> str:
    """One page that opens from disk, needs no network, and knows nothing but `design`.

    Args:
        design: study (its hash), questions, dwell (seconds), side (pixels), and forms: lists of
            trials with id, text, and input, left, right as paths below the page.
    """
    template = (resources.files("imagic_jax.report") / "study.html").read_text(encoding="utf-8")
    data = json.dumps(design, separators=(",", ":")).replace("<", "\\u003c")
    assert template.count(_PLACE) == 1
    return template.replace(_PLACE, data)
