"""Caption cleaning against what diffusers' IFPipeline makes of the same texts."""

import builtins
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagic_jax.errors import UserError
from imagic_jax.weights import captions

RECORDED = Path(__file__).parents[1] / "fixtures" / "if_captions.json"
PAIRS = json.loads(RECORDED.read_text(encoding="utf-8"))["pairs"]


@pytest.fixture
def packages():
    pytest.importorskip("bs4")
    pytest.importorskip("ftfy")


@pytest.mark.parametrize(("text", "cleaned"), PAIRS)
def test_full_cleaning_is_that_of_diffusers(packages, text, cleaned):
    assert captions.full(text) == cleaned


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_full_cleaning_takes_any_text(text):
    pytest.importorskip("bs4")
    pytest.importorskip("ftfy")
    cleaned = captions.full(text)
    assert cleaned == cleaned.strip()


@pytest.mark.parametrize("markup", ["<![x", "<!x", "</", "<", "&", "&#", "&#99999999999;", "<?x"])
def test_broken_markup_is_no_error(packages, markup):
    assert captions.full(f"a dog {markup}").startswith("a dog")


def test_simple_cleaning_changes_case_and_ends_alone():
    assert captions.simple("  A Photo, of <b>\t") == "a photo, of <b>"


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without_ftfy(name, *args, **kwargs):
        if name in ("bs4", "ftfy"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_ftfy)
    captions._libraries.cache_clear()
    with pytest.raises(UserError, match="package bs4: `pip install ftfy beautifulsoup4`"):
        captions.full("a dog")
