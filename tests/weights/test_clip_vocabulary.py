"""CLIP's tokenizer for Flatland's words: one word, one token; the files are CLIP's own."""

import numpy as np
import pytest

from imagic_jax.flatland import captions
from imagic_jax.weights.clip_vocabulary import merges, save_clip_vocabulary, token_ids
from imagic_jax.weights.pretrained_tokenizer import load_tokenizer

LENGTH = 12


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_clip_vocabulary(folder, captions.vocabulary(), LENGTH)
    return load_tokenizer(folder)


def test_every_word_is_one_token_between_start_and_end(tokenizer):
    table = token_ids(captions.vocabulary())
    words = captions.vocabulary()
    ids, mask = tokenizer(words)
    last = len(table) - 1
    expected = np.full((len(words), LENGTH), last)
    expected[:, 0] = last - 1
    expected[:, 1] = [table[w + "</w>"] for w in words]
    np.testing.assert_array_equal(ids, expected)
    assert (mask.sum(axis=1) == 3).all()


def test_a_caption_is_as_long_as_its_words(tokenizer):
    ids, mask = tokenizer(["A pencil sketch of a Dog, wearing a hat!"])
    table = token_ids(captions.vocabulary())
    words = ["a", "pencil", "sketch", "of", "a", "dog", ",", "wearing", "a", "hat", "!"]
    assert tokenizer.cut_off("A pencil sketch of a Dog, wearing a hat!") == "!"
    known = [table[w + "</w>"] for w in words[:10]]
    assert list(ids[0]) == [len(table) - 2, *known, len(table) - 1]
    assert mask.sum() == LENGTH


def test_a_word_outside_the_vocabulary_falls_into_letters(tokenizer):
    table = token_ids(captions.vocabulary())
    ids, _ = tokenizer(["xylophones", "größe"])
    names = {i: t for t, i in table.items()}
    pieces = [names[i] for i in ids[0] if i < len(table) - 2]
    assert "".join(pieces) == "xylophones</w>"
    assert pieces[:6] == list("xyloph")
    assert not any(i == len(table) - 1 for i in ids[1][1:5])  # bytes, not the unknown token


def test_words_that_clip_would_split_are_refused():
    with pytest.raises(ValueError, match="don't"):
        merges(["dog", "don't"])
