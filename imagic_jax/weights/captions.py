"""Cleaning of captions as DeepFloyd IF was trained to see them.

`full` is the chain of rules of `deepfloyd_if/model/t5.py` (github.com/deep-floyd/IF), which
diffusers' IFPipeline applies twice when asked to clean captions. It is meant for captions from the
web; what people type is as well served by `simple`, the pipeline's other way.
"""

import functools
import html
import re
import urllib.parse
import warnings
from collections.abc import Callable, Sequence

from imagic_jax.errors import UserError

_Rules = Sequence[tuple[str, str]]

_DOMAIN = r"[a-zA-Z0-9.\-]+[.](?:com|co|ru|net|org|edu|gov|it)[\w/-]*\b\/?(?!@)"
_FORMATS = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"

_BEFORE_MARKUP: _Rules = (
    ("<person>", "person"),
    (rf"\b((?:https?:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_DOMAIN}))", ""),
    (rf"\b((?:www:(?:\/{{1,3}}|[a-zA-Z0-9%])|{_DOMAIN}))", ""),
)
_AFTER_MARKUP: _Rules = (
    (r"@[\w\d]+\b", ""),  # nicknames
    (r"[\u31c0-\u9fff]+", ""),  # CJK strokes, enclosed and compatibility forms, ideographs
    (
        r"[\u002D\u058A\u05BE\u1400\u1806\u2010-\u2015\u2E17\u2E1A\u2E3A\u2E3B\u2E40\u301C\u3030"
        r"\u30A0\uFE31\uFE32\uFE58\uFE63\uFF0D]+",
        "-",
    ),
    ("[`\u00b4«»“”¨]", '"'),
    ("[\u2018\u2019]", "'"),
    (r"&quot;?", ""),
    (r"&amp", ""),
    (r"\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}", " "),  # IP addresses
    (r"\d:\d\d\s+$", ""),  # article ids
    (r"\\n", " "),
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"[\S]+\.(?:{_FORMATS})", ""),  # file names
    (r"[\"\']{2,}", '"'),
    (r"[\.]{2,}", " "),
    (r"[#®•©™&@·º½¾¿¡§~)(\]\[}{|\\/*]+", " "),
    (r"\s+\.\s+", " "),
)
_AFTER_ENTITIES: _Rules = (
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # jc6640
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),  # jc6640vc
    (r"\b\d+[a-zA-Z]+\d+\b", ""),  # 6640vc231
    (r"(worldwide\s+)?(free\s+)?shipping", ""),
    (r"(free\s)?download(\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{_FORMATS})(\simage[s]?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),  # j2d1a2a
    (r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b", ""),  # 640x480, also with Cyrillic or a times sign
    (r"\b\s+\:\s+", ": "),
    (r"(\D[,\./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"\']([\w\W]+)[\"\']$", r"\1"),
    (r"^[\'\_,\-\:;]", ""),
    (r"[\'\_,\-\:\-\+]$", ""),
    (r"^\.\S+$", ""),
)
_JOINER = re.compile(r"[-_]")
_MANY_JOINERS = 3


def simple(text: str) -> str:
    """Lower case, without space around it."""
    return text.lower().strip()


def full(text: str) -> str:
    """Without what web captions carry along: addresses, markup, ids, file names, odd punctuation.

    Raises:
      UserError: the packages ftfy and beautifulsoup4 are not installed.
    """
    return _once(_once(text))


def _once(text: str) -> str:
    fix_text, markup_text = _libraries()
    text = urllib.parse.unquote_plus(text).strip().lower()
    text = markup_text(_apply(_BEFORE_MARKUP, text))
    text = _apply(_AFTER_MARKUP, text)
    if len(_JOINER.findall(text)) > _MANY_JOINERS:  # this-is-my-cute-cat
        text = _JOINER.sub(" ", text)
    text = html.unescape(html.unescape(fix_text(text)))
    return _apply(_AFTER_ENTITIES, text).strip()


def _apply(rules: _Rules, text: str) -> str:
    for pattern, replacement in rules:
        text = re.sub(pattern, replacement, text)
    return text


@functools.cache
def _libraries() -> tuple[Callable[[str], str], Callable[[str], str]]:
    """ftfy's mending of broken Unicode, and the text within HTML."""
    try:
        import bs4
        import ftfy
    except ImportError as error:
        raise UserError(
            f"cleaning captions fully needs the package {error.name}: "
            "`pip install ftfy beautifulsoup4`, or clean them simply"
        ) from error

    def markup_text(text: str) -> str:
        with warnings.catch_warnings():  # "looks like a file name": any text is fine here
            warnings.simplefilter("ignore")
            return bs4.BeautifulSoup(text, features="html.parser").text

    return ftfy.fix_text, markup_text
