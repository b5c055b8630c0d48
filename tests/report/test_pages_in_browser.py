"""Result pages in a real browser: every picture is there, nothing is asked of a network."""

import made_up_rows
import numpy as np
import pytest
import standalone
from PIL import Image as pil

from imagic_jax.evaluation import flatland_pages, flatland_report
from imagic_jax.report.comparison import Entry, Panel, Shown, comparison_page

pytestmark = pytest.mark.browser


def drawn(shade, side=64):
    return pil.fromarray(np.full((side, side, 3), shade, np.uint8))


def benchmark(folder):
    found = flatland_report.results(made_up_rows.run(), "test", resamples=50)
    flatland_pages.write(found, ["made up"], folder)
    return folder / "report.html"


def comparison(folder):
    entries = [
        Entry(
            name=name,
            title=name.upper(),
            paper="nobody 2026",
            folder=f"01-bird/{name}",
            used=("source text",),
            shown=tuple(Shown(f"strength {s:g}", 0, drawn(int(255 * s)), 20.0, None)
                        for s in (0.2, 0.5, 0.8)),
            fit_evaluations=20,
            render_evaluations=(4, 10, 16),
            compile_s=1.0,
            fit_s=2.0,
            picture_s=0.3,
        )
        for name in ("one", "two")
    ]  # fmt: skip
    for entry in entries:
        (folder / entry.folder).mkdir(parents=True)
        (folder / entry.folder / "index.html").write_text("<!doctype html><title>edit</title>")
    about = {"model": "m", "random_weights": False, "preset": "p", "device": "cpu"}
    panels = [Panel("a bird", "", {"input": drawn(90)}, tuple(entries))]
    (folder / "index.html").write_text(comparison_page(panels, about))
    return folder / "index.html"


@pytest.mark.parametrize("make", [benchmark, comparison])
def test_a_page_opens_from_disk(make, browser, tmp_path):
    page = make(tmp_path)
    standalone.check(page)
    browser.get("about:blank")
    browser.asked()
    browser.get_log("browser")
    browser.get(page.as_uri())
    broken = browser.execute_script(
        "return [...document.images].filter(i => !i.complete || !i.naturalWidth).map(i => i.alt)"
    )
    assert broken == []
    assert (
        browser.execute_script(
            "return document.images.length + document.querySelectorAll('svg').length"
        )
        > 4
    )
    wide = "return document.documentElement.scrollWidth - window.innerWidth"
    assert browser.execute_script(wide) <= 0  # tables scroll by themselves
    assert {url.split(":")[0] for url in browser.asked()} <= {"file", "data"}
    assert browser.get_log("browser") == []
    for link in browser.find_elements("css selector", "a[href]"):
        assert link.get_attribute("href").startswith("file:")
