"""Captions: a small grammar from factors to English, and back.

A caption names a random subset of the factors (short prompts, as people write them, are then in
distribution) with random synonyms in one of a few sentence families. Some families and phrases
are never used in training, so that a `phrase` split can ask for unseen wordings of known words.
`parse` reads a caption back: `parse(caption(f, mentioned)) == {those factors}`.
"""

import random
import re
from collections.abc import Iterable
from typing import Literal

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.factors import Factors

Wording = Literal["train", "validation", "test"]

_NOUNS = {
    "bird": ("bird",),
    "dog": ("dog", "puppy"),
    "cake": ("cake",),
    "car": ("car",),
    "ball": ("ball",),
    "flower": ("flower",),
}
# A cake may name its colour by its flavour, as in "a pistachio cake".
_FLAVOURS = (
    "cherry",
    "pumpkin",
    "lemon",
    "pistachio",
    "blueberry",
    "plum",
    "strawberry",
    "vanilla",
)

# (class, state) -> adjectives before the noun, phrases after it.
_STATE_ADJECTIVES = {
    ("bird", "folded"): ("perched", "resting"),
    ("bird", "spread"): (),
    ("dog", "standing"): ("standing",),
    ("dog", "sitting"): ("sitting",),
    ("dog", "jumping"): ("jumping", "leaping"),
    ("cake", "plain"): ("plain",),
    ("cake", "candles"): ("birthday",),
    ("car", "closed"): ("closed",),
    ("car", "convertible"): ("convertible", "open"),
    ("ball", "still"): (),
    ("flower", "bud"): ("closed", "budding"),
    ("flower", "bloom"): ("blooming", "open"),
}
_STATE_PHRASES = {
    ("bird", "folded"): ("with folded wings", "folding its wings", "with its wings folded"),
    ("bird", "spread"): (
        "spreading its wings",
        "spreading wings",
        "with spread wings",
        "with its wings spread",
        "with open wings",
    ),
    ("dog", "standing"): ("standing", "that is standing"),
    ("dog", "sitting"): ("sitting", "sitting down", "that is sitting"),
    ("dog", "jumping"): ("jumping", "leaping", "that is jumping"),
    ("cake", "plain"): ("without candles", "with no candles"),
    ("cake", "candles"): ("with candles", "with three candles", "with burning candles"),
    ("car", "closed"): ("with a roof", "with its roof up", "with a closed roof"),
    ("car", "convertible"): ("with its roof down", "without a roof", "with an open roof"),
    ("ball", "still"): (),
    ("flower", "bud"): ("in bud", "with closed petals"),
    ("flower", "bloom"): ("in bloom", "in full bloom", "with open petals"),
}
_PLACES = {
    "meadow": ("in a meadow", "on a meadow", "on the grass", "in the grass"),
    "beach": ("on a beach", "on the beach", "at the beach", "by the sea", "on the sand"),
    "snow": ("in the snow", "on the snow", "in winter"),
    "night": ("at night", "in the night", "under the stars", "in the dark"),
}
_ACCESSORIES = {
    "hat": ("wearing a hat", "with a hat", "wearing a party hat"),
    "none": ("without a hat", "with no hat"),
}
_STYLES = {
    "photo": ("a photo of", "a photograph of"),
    "sketch": ("a pencil sketch of", "a pencil drawing of", "a sketch of", "a drawing of"),
}
_STYLE_TAILS = {"photo": ("in a photo",), "sketch": ("in a pencil sketch", "in a pencil drawing")}

# Phrases kept for the test wordings: their words all occur in training, these sequences do not.
_HELD_OUT_PHRASES = {
    "with its wings spread",
    "that is sitting",
    "with no candles",
    "with an open roof",
    "in full bloom",
    "on the sand",
    "a drawing of",
    "wearing a party hat",
}
_FAMILIES = {
    # {lead} style, {noun} article + adjectives + noun, {state}, {acc}, {place}
    "train": (
        "{lead} {noun} {state} {acc} {place}",
        "{lead} {noun} {state} {place} {acc}",
        "{lead} {noun} {acc} {state} {place}",
        "{place} {noun} {state} {acc} {tail}",
        "{noun} {state} {acc} {place} {tail}",
    ),
    "validation": ("{lead} {noun} {place} {state} {acc}",),
    "test": ("{place} {lead} {noun} {state} {acc}", "{lead} {noun} {place} {acc} {state}"),
}

#: How often a training caption names each factor (the class always).
MENTION = {"state": 0.65, "colour": 0.6, "place": 0.55, "accessory": 0.6, "style": 0.75}
_MENTION_RARE = {"accessory": 0.12, "style": 0.25}  # for "no hat" and "a photo"


def mentioned_factors(f: Factors, rng: random.Random) -> tuple[str, ...]:
    """Draws the subset of factors that a training caption of `f` names."""
    named = ["cls"]
    for name, share in MENTION.items():
        if name in _MENTION_RARE and int(getattr(f, name)) == 0:
            share = _MENTION_RARE[name]
        if len(fx.values(name, int(f.cls))) > 1 and rng.random() < share:
            named.append(name)
    return tuple(named)


def nameable_factors(f: Factors) -> tuple[str, ...]:
    """Every factor that a caption of `f` can name: those that its class leaves a choice."""
    return tuple(n for n in fx.FACTOR_NAMES if len(fx.values(n, int(f.cls))) > 1)


def _choose(options: Iterable[str], rng: random.Random, wording: Wording) -> str:
    """One option; training and validation leave the held-out phrases to the tests."""
    options = list(options)
    if wording != "test":
        options = [o for o in options if o not in _HELD_OUT_PHRASES]
    else:
        options = [o for o in options if o in _HELD_OUT_PHRASES] or options
    return rng.choice(options) if options else ""


def _article(words: str) -> str:
    return ("an " if words[0] in "aeiou" else "a ") + words


def caption(
    f: Factors, mentioned: Iterable[str], rng: random.Random, wording: Wording = "train"
) -> str:
    """Writes one caption of `f` that names exactly the factors in `mentioned` (class included).

    Args:
        f: the factors.
        mentioned: factor names (see `factors.FACTOR_NAMES`).
        rng: source of the wording.
        wording: which sentence families and phrases may be used.
    """
    named = set(mentioned)
    cls, state = fx.name_of(f, "cls"), fx.name_of(f, "state")
    adjectives, phrase = [], ""
    if "state" in named:
        before = _STATE_ADJECTIVES[cls, state]
        after = _STATE_PHRASES[cls, state]
        if before and (not after or rng.random() < 0.45):
            adjectives.append(_choose(before, rng, wording))
        else:
            phrase = _choose(after, rng, wording)
    if "colour" in named:
        flavour = cls == "cake" and rng.random() < 0.3
        names = _FLAVOURS if flavour else fx.COLOURS
        adjectives.append(names[int(f.colour)])
    if rng.random() < 0.3:
        adjectives.reverse()
    noun = _article(" ".join([*adjectives, _choose(_NOUNS[cls], rng, wording)]))

    def part(name: str, table: dict[str, tuple[str, ...]]) -> str:
        return _choose(table[fx.name_of(f, name)], rng, wording) if name in named else ""

    family = rng.choice(_FAMILIES[wording])
    text = family.format(
        noun=noun,
        state=phrase,
        lead=part("style", _STYLES) if "{lead}" in family else "",
        tail=part("style", _STYLE_TAILS) if "{tail}" in family else "",
        acc=part("accessory", _ACCESSORIES),
        place=part("place", _PLACES),
    )
    return " ".join(text.split())


def words(text: str) -> list[str]:
    """Lower-case words of a text, without punctuation: what the tokenizer sees."""
    return re.findall(r"[a-z0-9']+", text.lower())


def vocabulary() -> list[str]:
    """Every word the grammar can write, sorted: the closed vocabulary of the tokenizer."""
    texts = ["a", "an", *fx.COLOURS, *_FLAVOURS]
    tables = (
        _NOUNS,
        _STATE_ADJECTIVES,
        _STATE_PHRASES,
        _PLACES,
        _ACCESSORIES,
        _STYLES,
        _STYLE_TAILS,
    )
    for table in tables:
        for options in table.values():
            texts.extend(options)
    return sorted({w for t in texts for w in words(t)})


def _phrase_table(cls: str) -> list[tuple[list[str], str, int]]:
    """(words, factor, value) of every phrase that can follow for this class, longest first."""
    c = fx.CLASSES.index(cls)
    rows: list[tuple[list[str], str, int]] = []

    def add(options: Iterable[str], factor: str, value: int) -> None:
        rows.extend((words(o), factor, value) for o in options)

    for s, state in enumerate(fx.STATES[cls]):
        add(_STATE_ADJECTIVES[cls, state] + _STATE_PHRASES[cls, state], "state", s)
    for k, colour in enumerate(fx.COLOURS):
        add((colour, _FLAVOURS[k]) if cls == "cake" else (colour,), "colour", k)
    for k, place in enumerate(fx.PLACES):
        add(_PLACES[place], "place", k)
    for k, accessory in enumerate(fx.values("accessory", c)):
        add(_ACCESSORIES[accessory], "accessory", k)
    for k, style in enumerate(fx.STYLES):
        add([*(s.removesuffix(" of") for s in _STYLES[style]), *_STYLE_TAILS[style]], "style", k)
    return sorted(rows, key=lambda r: -len(r[0]))


def parse(text: str) -> dict[str, int]:
    """Reads the factors that a text names: {factor: value}. Unknown words are passed over.

    The longest phrase wins at each place ("with open wings" is not "open"); without a known noun
    the result is empty, because states mean nothing without a class.
    """
    tokens = words(text)
    nouns = {n: c for c, cls in enumerate(fx.CLASSES) for n in _NOUNS[cls]}
    subject = next((nouns[t] for t in tokens if t in nouns), None)
    if subject is None:
        return {}
    found = {"cls": subject}
    table = _phrase_table(fx.CLASSES[subject])
    at = 0
    while at < len(tokens):
        for phrase, factor, value in table:
            if tokens[at : at + len(phrase)] == phrase:
                found.setdefault(factor, value)
                at += len(phrase)
                break
        else:
            at += 1
    return found


def unknown_words(text: str) -> list[str]:
    """The words of `text` that Flatland has never heard, in order, without repeats."""
    known = set(vocabulary())
    return list(dict.fromkeys(w for w in words(text) if w not in known))


def satisfies(f: Factors, named: dict[str, int]) -> bool:
    """Whether `f` agrees with every factor that a parsed caption names (f |= c)."""
    return all(int(getattr(f, n)) == v for n, v in named.items())
