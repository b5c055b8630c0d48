"""Analysis-by-synthesis reads ideal edits as right, and copies and cross-fades as wrong."""

import numpy as np
import pytest

from imagic_jax.evaluation.items import EDITS, items
from imagic_jax.evaluation.scoring import MOST_RESIDUAL, score
from imagic_jax.flatland import reader

ITEMS = items("validation", 8)


@pytest.fixture(scope="module", params=ITEMS, ids=lambda i: i.name)
def item(request):
    return request.param


def damaged(picture, rng):
    """Ways in which a good edit may differ from the ideal one without being wrong."""
    return np.stack(
        [
            picture,
            np.clip(picture + rng.normal(0, 0.03, picture.shape), 0, 1),
            reader.blur(picture[None], 1.0)[0],
            np.roll(picture, (1, -2), (0, 1)),
            np.clip(picture + 0.04, 0, 1),
        ]
    ).astype(np.float32)


def test_ideal_edits_pass_even_when_noisy_blurred_or_shifted(item):
    _, ideal = item.pictures()
    for s in score(item, damaged(ideal, np.random.default_rng(0))):
        assert s.success
        assert s.preservation == 1.0
        assert s.identity >= 5 / 6
        assert s.joint
        assert s.residual < MOST_RESIDUAL


def test_copies_and_cross_fades_fail(item):
    source, ideal = item.pictures()
    copy, fade = score(item, np.stack([source, (source + ideal) / 2]).astype(np.float32))
    assert not copy.success
    assert not copy.read_success
    assert copy.identity == 1.0
    assert copy.source_psnr == 100.0
    assert not fade.success  # a cross-fade must not pass as an edit


def test_noise_is_no_edit(item):
    noise = np.random.default_rng(1).random((1, 64, 64, 3)).astype(np.float32)
    assert not score(item, noise)[0].success


def test_mark_bits_are_read_exactly():
    item = ITEMS[0]
    u, options = item.nuisance(), [item.source]
    for code in range(0, 64, 7):
        bits = np.array([(code >> k) & 1 for k in range(6)], np.float32)
        picture = reader.render_list(options, u._replace(mark=bits))[0]
        reading = reader.read(picture[None], u, options)[0]
        np.testing.assert_array_equal(reader.read_mark(picture, reading, u), bits)


def test_reader_finds_the_shift_and_the_blur():
    item = ITEMS[0]
    source, _ = item.pictures()
    moved = reader.blur(np.roll(source, (2, -1), (0, 1))[None], 1.4)
    reading = reader.read(moved, item.nuisance(), [item.source])[0]
    assert reading.shift == (2, -1)
    assert reading.blur == 1.4


def test_items_are_balanced_distinct_and_always_the_same():
    again = items("validation", 8)
    assert [i.name for i in again] == [i.name for i in ITEMS]
    assert {i.edit for i in ITEMS} == set(EDITS)
    assert len({i.name for i in ITEMS}) == 8
    assert not {i.nuisance_seed for i in ITEMS} & {i.nuisance_seed for i in items("test", 8)}
