"""Which tokens belong together, on a tokenizer with one token per word and one with pieces."""

import numpy as np
import pytest

from imagic_jax.editors import words
from imagic_jax.errors import UserError


@pytest.fixture(scope="module")
def flatland(tiny_loaded):
    return tiny_loaded.cascade  # one token per word, no start token


@pytest.fixture(scope="module")
def clip(sd_loaded):
    return sd_loaded.cascade  # a start token; "dog" "red" "now" are one token, the rest letters


def test_a_word_swap_moves_nothing_else(flatland):
    found = words.align(flatland, "a red dog", "a blue dog")
    np.testing.assert_array_equal(found.mapper, np.eye(12))
    assert not found.own.any()
    np.testing.assert_array_equal(found.scale, 1)
    assert not found.place.any()


def test_every_row_of_a_swap_sums_to_one(clip):
    """ "cat" is three tokens and "dog" one, in both directions."""
    for old, new in (("red dog now", "red cat now"), ("red cat now", "red dog now")):
        mapper = words.align(clip, old, new).mapper
        np.testing.assert_allclose(mapper.sum(axis=1), 1, rtol=1e-6)
    # start, red, c, a, t, now | start, red, dog, now
    np.testing.assert_array_equal(mapper[2:5, 2], 1)
    assert mapper[5, 3] == 1
    assert mapper[0, 0] == mapper[1, 1] == 1
    wider = words.align(clip, "red dog now", "red cat now").mapper
    np.testing.assert_allclose(wider[2, 2:5], 1 / 3)
    assert wider[3, 5] == 1


def test_refining_keeps_common_tokens_and_leaves_new_ones_their_own(flatland):
    found = words.align(flatland, "a dog", "a red dog")
    # a, dog, end | a, red, dog, end
    assert found.mapper[0, 0] == found.mapper[1, 2] == found.mapper[2, 3] == 1
    np.testing.assert_array_equal(found.own[:4], [0, 1, 0, 0])
    assert not found.mapper[:, 1].any()
    np.testing.assert_array_equal(found.mapper.sum(axis=0) + found.own, 1)


def test_the_same_text_is_aligned_with_itself_in_either_mode(clip):
    for mode in ("auto", "replace", "refine"):
        found = words.align(clip, "red dog, now", "red dog, now", mode=mode)
        np.testing.assert_array_equal(found.mapper, np.eye(77))
        assert not found.own.any()


def test_words_are_found_beside_punctuation_and_weighted(clip):
    found = words.align(
        clip, "a Dog.", "a red dog!", emphasis={"red": 2.0}, place=(["dog"], ["red", "dog"])
    )
    # start, a, dog, . | start, a, red, dog, !
    assert found.scale[2] == 2
    assert found.scale.sum() == 78
    np.testing.assert_array_equal(np.flatnonzero(found.place[0]), [2])
    np.testing.assert_array_equal(np.flatnonzero(found.place[1]), [2, 3])


def test_what_cannot_be_aligned_is_said(flatland):
    with pytest.raises(UserError, match="source text has 2 and the target text 3"):
        words.align(flatland, "a dog", "a red dog", mode="replace")
    with pytest.raises(UserError, match="target text has no word 'cat'; its words are: a, dog"):
        words.align(flatland, "a dog", "a dog", emphasis={"cat": 2.0})
    with pytest.raises(UserError, match="words of both texts"):
        words.align(flatland, "a dog", "a dog", place=(["dog"], []))
