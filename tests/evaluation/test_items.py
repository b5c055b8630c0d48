"""Items: balanced, of their split, always the same; ideal edits by hand; the manifest."""

import json

import numpy as np
import pytest

from imagic_jax.evaluation import items as it
from imagic_jax.evaluation import manifest
from imagic_jax.flatland import captions, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland.counterfactuals import background_mask, comparable, ideals


def drawn(split, part="validation", tries=12):
    """The first usable draws of every kind, without looking at pictures."""
    found = [it.draw(part, split, e, i) for e in it.edits_of(split) for i in range(tries)]
    return [i for i in found if i is not None]


@pytest.mark.parametrize("split", it.SPLITS)
@pytest.mark.parametrize("part", ["validation", "test"])
def test_items_belong_to_their_split(split, part):
    chosen = drawn(split, part, 40 if "ood" in split else 12)
    assert {i.edit for i in chosen} == set(it.edits_of(split))
    for item in chosen:
        named = captions.parse(item.text)
        source_part = part if split == "src-ood" else "train"
        target_part = part if split == "tgt-ood" else "train"
        assert splits.part_of(item.source) == source_part
        assert {splits.part_of(g) for g in item.ideals} == {target_part}
        assert captions.satisfies(item.source, captions.parse(item.source_text))
        assert all(captions.satisfies(g, named) for g in item.ideals)
        assert captions.satisfies(item.source, named) == (split == "null")
    assert len({i.nuisance_seed for i in chosen}) == len(chosen)


def test_parts_and_splits_share_no_picture():
    seeds = [
        i.nuisance_seed for p in ("validation", "test") for s in it.SPLITS for i in drawn(s, p)
    ]
    assert len(set(seeds)) == len(seeds)


def test_a_draw_is_always_the_same():
    assert it.draw("test", "iid", "pose", 3) == it.draw("test", "iid", "pose", 3)
    item = drawn("iid")[0]
    assert item.seeds(4)[:2] == item.seeds(2)
    assert len(set(item.seeds(4))) == 4


@pytest.mark.parametrize("count", [1, 8, 100, 400])
def test_kinds_of_edits_are_balanced_by_weight(count):
    found = it.balanced(count)
    assert sum(found.values()) == count
    total = sum(w for _, w in it.EDITS.values())
    for edit, (_, weight) in it.EDITS.items():
        assert abs(found[edit] - count * weight / total) < 1


def test_named_kinds_of_edits_have_the_same_number_of_items():
    found = it.items("validation", 5, edits=("place", "pose"))
    assert [i.edit for i in found] == ["place"] * 3 + ["pose"] * 2
    of_all = it.items("validation", 8)
    assert [i for i in of_all if i.edit == "pose"][:2] == found[3:]  # the same items either way


def test_the_ideal_edit_changes_as_little_as_the_text_allows():
    f = fx.make(cls="dog", state="sitting", colour="red", place="snow", accessory="hat")
    named = captions.parse("a jumping dog")
    assert ideals(f, named) == (f._replace(state=2),)
    assert ideals(f, captions.parse("a red dog")) == (f,)
    bird = ideals(f, captions.parse("a bird"))
    assert [fx.name_of(g, "state") for g in bird] == ["folded", "spread"]  # the text leaves it open
    assert all(fx.name_of(g, "accessory") == "hat" for g in bird)
    (ball,) = ideals(f, captions.parse("a ball"))
    assert fx.name_of(ball, "accessory") == "none"  # balls wear none
    assert comparable(f, ball) == ("cls", "colour", "place", "style")
    (spread,) = ideals(f, captions.parse("a bird spreading its wings"))
    assert fx.name_of(spread, "state") == "spread"


def test_kept_factors_are_those_that_mean_the_same():
    f = fx.make(cls="dog", state="sitting", colour="red")
    item = it.Item("x", "class", "iid", f, ideals(f, {"cls": 0}), "a bird", "a dog", 1)
    assert it.kept_factors(item) == ("colour", "place", "accessory", "style")


def test_the_background_is_what_the_edit_leaves_alone():
    a = np.zeros((16, 16, 3), np.float32)
    b = a.copy()
    b[8, 0] = 1.0
    mask = background_mask(a, b)
    assert mask.sum() == 256 - 5 * 3  # two pixels around; the far side of the frame is no neighbour
    assert background_mask(a, a).all()


def test_a_manifest_gives_the_items_back_and_tells_other_pictures_apart():
    (item,) = it.items("validation", 1)
    entries = json.loads(json.dumps(manifest.manifest([item])))
    assert manifest.read(entries) == [item]
    assert manifest.drawn_otherwise(entries) == []
    entries[0]["ideal_sha256"][0] = "0" * 64
    assert manifest.drawn_otherwise(entries) == [item.name]
