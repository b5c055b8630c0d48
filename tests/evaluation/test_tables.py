"""Tables from rows: means over seeds first, then over items."""

import numpy as np
import pytest

from imagic_jax.evaluation import fidelity, imagic_bench
from imagic_jax.flatland import captions, splits
from imagic_jax.flatland import factors as fx

KEYS = [k for _, k in imagic_bench.COLUMNS]


def row(item, method="imagic", eta=0.5, seed=0, edit="pose", **scores):
    return {
        **dict.fromkeys(KEYS, 0.0),
        "item": item,
        "method": method,
        "eta": eta,
        "seed": seed,
        "edit": edit,
        **scores,
    }


def test_items_weigh_the_same_whatever_their_number_of_seeds():
    rows = [row("a", seed=s, joint=1.0) for s in range(3)] + [row("b", joint=0.0)]
    means = imagic_bench.mean_scores(rows)
    assert means["items"] == 2
    assert means["joint"] == 0.5


def test_values_that_are_none_are_left_out():
    rows = [row("a", background_psnr=float("nan")), row("b", background_psnr=30.0)]
    assert imagic_bench.mean_scores(rows)["background_psnr"] == 30.0
    assert np.isnan(imagic_bench.mean_scores(rows[:1])["background_psnr"])


def test_the_chosen_eta_has_the_best_joint_success():
    rows = [
        row("a", eta=0.0),
        row("a", eta=0.5, joint=1.0, success=1.0),
        row("a", eta=1.0, success=1.0),
        row("a", method="no fine-tuning", eta=0.0, identity=0.5),
        row("a", method="copy", eta=None),
        row("a", method="oracle", eta=None, joint=1.0),
        row("a", method="text-only", eta=None),
    ]
    table = imagic_bench.table(rows)
    assert "imagic, eta = 0.5 (chosen)" in table
    assert table["imagic, eta = 0.5, pose edits"]["joint"] == 1.0
    assert table["no fine-tuning, eta = 0"]["identity"] == 0.5
    text = imagic_bench.markdown(table)
    assert text.splitlines()[0].startswith("| method | n | edit success")
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_the_best_eta_of_each_picture_has_its_own_row():
    rows = [
        row(item, eta=e, joint=float(e == best))
        for item, best in (("a", 0.5), ("b", 1.0))
        for e in (0.0, 0.5, 1.0)
    ]
    rows += [row(i, method=m, eta=None) for i in "ab" for m in ("copy", "oracle", "text-only")]
    table = imagic_bench.table(rows)
    assert table["imagic, eta chosen per picture by the scores"]["joint"] == 1.0
    assert table["imagic, eta = 0.5 (chosen)"]["joint"] == 0.5


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
