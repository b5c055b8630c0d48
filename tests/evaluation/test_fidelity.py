"""Captions that plain samples are drawn from, and what is counted in the pictures."""

import pytest

from imagic_jax.evaluation import fidelity
from imagic_jax.flatland import captions, splits
from imagic_jax.flatland import factors as fx


@pytest.mark.parametrize("split", ["iid", "held-out", "phrase"])
def test_prompts_belong_to_their_split_and_are_always_the_same(split):
    asked = fidelity.prompts(split, 24)
    assert asked == fidelity.prompts(split, 24)
    assert [int(p.factors.cls) for p in asked[:6]] == list(range(6))
    for p in asked:
        part = splits.part_of(p.factors)
        assert part == ("validation" if split == "held-out" else "train")
        assert captions.satisfies(p.factors, p.named)
        assert captions.parse(p.text) == p.named


def test_a_card_tells_whether_samples_may_carry_marks():
    assert not fidelity.draws_marks({"name": "a folder of other weights"})
    assert not fidelity.draws_marks({"stages": [{"name": "base"}]})
    trained = [{"training": {"mark_share": share}} for share in (0.0, 0.5)]
    assert not fidelity.draws_marks({"stages": trained})  # the first stage decides
    assert fidelity.draws_marks({"stages": trained[::-1]})


def test_fidelity_counts_named_factors():
    rows = [
        {"right": {"cls": True, "colour": False}, "residual": 0.1},
        {"right": {"cls": True}, "residual": 0.2},
    ]
    s = fidelity.summary(rows)
    assert s["named_factors"] == 3
    assert s["named_factors_right"] == pytest.approx(2 / 3)
    assert s["all_named_right"] == 0.5
    assert s["by_factor"] == {"cls": 1.0, "colour": 0.0}
    assert list(s["by_factor"]) == [n for n in fx.FACTOR_NAMES if n in s["by_factor"]]
