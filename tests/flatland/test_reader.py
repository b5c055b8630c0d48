"""Analysis-by-synthesis reads ideal edits as right, and copies and cross-fades as wrong."""

import numpy as np
import pytest

from imagic_jax.evaluation.items import items
from imagic_jax.evaluation.scoring import GATES, score
from imagic_jax.flatland import reader

ITEMS = items("validation", 4)


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
    _, (ideal, *_) = item.pictures()
    for s in score(item, damaged(ideal, np.random.default_rng(0))):
        assert s["success"]
        assert s["preservation"] == 1.0
        assert s["identity"] >= 5 / 6
        assert s["joint"]
        assert s["residual"] < GATES.residual


def test_noise_is_no_edit(item):
    noise = np.random.default_rng(1).random((1, 64, 64, 3)).astype(np.float32)
    assert not score(item, noise)[0]["success"]


def test_mark_bits_are_read_exactly():
    item = ITEMS[0]
    u, options = item.nuisance(), [item.source]
    basis = reader.mark_basis(item.source, u)
    for code in range(0, 64, 7):
        bits = np.array([(code >> k) & 1 for k in range(6)], np.float32)
        picture = reader.render_list(options, u._replace(mark=bits))[0]
        reading = reader.read(picture[None], u, options)[0]
        np.testing.assert_array_equal(reader.read_mark(picture, reading, basis), bits)


def test_reader_finds_the_shift_and_the_blur():
    item = ITEMS[0]
    source, _ = item.pictures()
    moved = reader.blur(np.roll(source, (2, -1), (0, 1))[None], 1.4)
    reading = reader.read(moved, item.nuisance(), [item.source])[0]
    assert reading.shift == (2, -1)
    assert reading.blur == 1.4
    back = reader.registered(moved, [reading])
    sharp = reader.without_rim(reader.blur(source[None], 1.4))
    inside = slice(8, -8)  # where what was rolled around the edge does not reach, blurred
    np.testing.assert_allclose(back[:, inside, inside], sharp[:, inside, inside], atol=1e-6)


@pytest.mark.parametrize("zoom", [0.9, 1.0, 1.1])
def test_reader_finds_the_zoom(zoom):
    """A camera that moved closer draws everything larger about the middle."""
    item = ITEMS[0]
    source, _ = item.pictures()
    scale = reader._zoom_matrix(1 / zoom)
    zoomed = np.einsum("ai,ijc,bj->abc", scale, source, scale)[None].astype(np.float32)
    readings = reader.read(zoomed, item.nuisance(), [item.source])
    assert reader.read_zoom(zoomed, readings, {item.source: source}) == [zoom]


def passing(change):
    """The share of validation items whose changed ideal edit passes q."""
    passed = []
    for item in items("validation", 24):
        source, goals = item.pictures()
        picture = np.clip(change(source, goals[0]), 0, 1).astype(np.float32)[None]
        q = min(float(reader.decided(picture, source, g)[0]) for g in goals)
        passed.append(q <= GATES.undecided)
    return float(np.mean(passed))


@pytest.mark.parametrize(
    ("share", "least", "most"), [(0, 0, 0), (0.25, 0, 0.02), (0.5, 0, 0.05), (0.75, 0.98, 1)]
)
def test_three_quarters_of_an_edit_are_decided_and_half_of_one_is_not(share, least, most):
    """evaluation: 4.5 C, the pass rates that the gate was set by."""
    assert least <= passing(lambda x, goal: (1 - share) * x + share * goal) <= most


def test_what_makes_an_edit_no_worse_leaves_it_decided():
    rng = np.random.default_rng(0)
    assert passing(lambda _, goal: goal + rng.normal(0, 0.05, goal.shape)) >= 0.95
    assert passing(lambda _, goal: reader.blur(goal[None], 2.0)[0]) == 1.0
    assert passing(lambda _, goal: np.roll(goal, (0, 2), (0, 1))) >= 0.98
    assert passing(lambda _, goal: goal + 0.05) >= 0.95
