"""Concepts and words as the command line spells them."""

import pytest

from imagic_jax.errors import UserError
from imagic_jax.jobs import concepts, word_choices


@pytest.mark.parametrize(
    ("given", "text", "sign", "values"),
    [
        ("glasses", "glasses", 1.0, {}),
        ("+glasses", "glasses", 1.0, {}),
        ("-  a   hat ", "a hat", -1.0, {}),
        ("+glasses:scale=7,threshold=.95", "glasses", 1.0, {"scale": 7.0, "threshold": 0.95}),
        ("-hat: warmup=3 , cooldown=20", "hat", -1.0, {"warmup": 3, "cooldown": 20}),
        ("+a clock at 10:30", "a clock at 10:30", 1.0, {}),
        ("+a clock at 10:30:weight=2", "a clock at 10:30", 1.0, {"weight": 2.0}),
    ],
)
def test_concepts_are_read(given, text, sign, values):
    (concept,) = concepts.parse([given])
    assert concept == (text, sign, values)
    assert concepts.parse([str(concept)]) == (concept,)  # as a fit keeps it


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "names nothing"),
        ("+", "glasses"),
        ("-:scale=3", "names nothing"),
        ("+hat:scal=3", "did you mean scale"),
        ("+hat:colour=red", "known: scale, threshold"),
        ("+hat:scale=", "must be a number"),
        ("+hat:scale=-2", "write -TEXT"),
        ("+hat:threshold=1", "must lie in 0..1"),
        ("+hat:threshold=nan", "finite"),
        ("+hat:warmup=1.5", "whole number"),
        ("+hat:tokens=1", "is no setting of a concept"),
    ],
)
def test_bad_concepts_are_refused(given, words):
    with pytest.raises(UserError, match="--concept") as caught:
        concepts.parse([given])
    assert words in str(caught.value)


def test_words_are_read():
    assert word_choices.parse(None, None) is None
    said = word_choices.parse("wings=2, bird=.5", "bird/bird,wings")
    assert said == ({"wings": 2.0, "bird": 0.5}, (("bird",), ("bird", "wings")))
    assert word_choices.parse(None, "bird").place == (("bird",), ("bird",))
    for emphasis in ("wings", "=2", "wings=loud", ""):
        with pytest.raises(UserError, match="--emphasis"):
            word_choices.parse(emphasis, None)
