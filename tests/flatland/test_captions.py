"""The caption grammar and its parser are inverse, and held-out wordings stay out of training."""

import random

import pytest

from imagic_jax.flatland import captions, splits
from imagic_jax.flatland import factors as fx


@pytest.mark.parametrize("wording", ["train", "validation", "test"])
def test_parse_reads_back_exactly_what_a_caption_names(wording):
    rng = random.Random(0)
    for _ in range(3000):
        f = splits.draw_factors(rng, rng.randrange(len(fx.CLASSES)))
        named = captions.mentioned_factors(f, rng)
        text = captions.caption(f, named, rng, wording)
        assert captions.parse(text) == {n: int(getattr(f, n)) for n in named}, text


def test_every_word_of_every_wording_is_in_the_vocabulary():
    rng = random.Random(1)
    for wording in ("train", "validation", "test"):
        for _ in range(1000):
            f = splits.draw_factors(rng, rng.randrange(len(fx.CLASSES)))
            text = captions.caption(f, fx.FACTOR_NAMES, rng, wording)
            assert captions.unknown_words(text) == []


def test_test_wordings_use_phrases_that_training_never_writes():
    rng = random.Random(2)
    seen = {"train": "", "test": ""}
    for wording in seen:
        for f in splits.combinations("train"):
            named = [n for n in fx.FACTOR_NAMES if len(fx.values(n, int(f.cls))) > 1]
            seen[wording] += captions.caption(f, named, rng, wording) + "\n"
    for phrase in ("that is sitting", "in full bloom", "with its wings spread"):
        assert phrase not in seen["train"]
        assert phrase in seen["test"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a bird spreading its wings", {"cls": "bird", "state": "spread"}),
        ("a pistachio cake", {"cls": "cake", "colour": "green"}),
        ("A SITTING DOG, wearing a hat!", {"cls": "dog", "state": "sitting", "accessory": "hat"}),
        (
            "a pencil sketch of an open car at night",
            {"cls": "car", "state": "convertible", "place": "night", "style": "sketch"},
        ),
        ("a photorealistic cathedral", {}),
        ("", {}),
    ],
)
def test_known_sentences(text, named):
    parsed = captions.parse(text)
    if named:
        wanted = fx.make(**named)
        assert parsed == {n: int(getattr(wanted, n)) for n in named}
    else:
        assert parsed == {}


def test_unknown_words_come_in_order_without_repeats():
    assert captions.unknown_words("a zebra and a zebra near a dog") == ["zebra", "and", "near"]
