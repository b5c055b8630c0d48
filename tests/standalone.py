"""Whether a page opens from disk alone: everything it refers to is in it or lies beside it."""

import base64
import io
import re
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

from PIL import Image as pil

_LOADED = {"src", "href", "xlink:href", "poster", "data", "action", "srcset", "background"}
_STYLED = re.compile(r"url\(\s*['\"]?([^'\")]+)['\"]?\s*\)|@import\s+['\"]([^'\"]+)['\"]")
#: What would ask a network without any attribute.
_ASKS = re.compile(r"\bfetch\(|XMLHttpRequest|\bimport\(|WebSocket|sendBeacon|EventSource")


class _Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found, self.ids, self.pictures, self._inside = [], set(), [], []

    def handle_starttag(self, tag, attrs):
        values = {k: v or "" for k, v in attrs}
        self.ids.add(values.get("id"))
        for name in _LOADED & set(values):
            self.found.append(values[name])
        for value in values.values():
            self._styles(value)
        if tag == "img" and values.get("src", "").startswith("data:"):
            self.pictures.append(values["src"])
        self._inside.append(tag)

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        last = self._inside[-1] if self._inside else ""
        if last == "style":
            self._styles(data)
        if last == "script":
            assert not _ASKS.search(data), _ASKS.search(data)

    def _styles(self, text):
        self.found += [a or b for a, b in _STYLED.findall(text)]


def check(path):
    """Everything that a page on disk refers to; fails where something is not there."""
    page = _Page()
    page.feed(path.read_text(encoding="utf-8"))
    for target in page.found:
        if target.startswith("data:"):
            continue
        if target.startswith("#"):
            assert target[1:] in page.ids, f"{target} is nowhere in {path.name}"
            continue
        parts = urlsplit(target)
        assert not parts.scheme + parts.netloc, f"{target} wants a network"
        assert parts.path[:1] not in ("", "/"), f"{target} is no relative path"
        assert (path.parent / unquote(parts.path)).is_file(), f"{target} is missing"
    for source in page.pictures:
        with pil.open(io.BytesIO(base64.b64decode(source.partition("base64,")[2]))) as picture:
            picture.load()
    return page.found
