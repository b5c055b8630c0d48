"""Factor assignments: what exists, what neighbours what, and which combinations are held out."""

import pytest

from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import splits


def test_all_factors_are_valid_and_distinct():
    every = list(fx.all_factors())
    assert len(every) == len(set(every)) == 1088
    assert all(fx.is_valid(f) for f in every)


def test_impossible_assignments_are_refused():
    assert not fx.is_valid(fx.Factors(4, 1, 0, 0, 0, 0))  # a ball has one state
    assert not fx.is_valid(fx.Factors(3, 0, 0, 0, 1, 0))  # cars wear no hats
    with pytest.raises(ValueError, match="a car has no accessory 'hat'"):
        fx.make(cls="car", accessory="hat")
    with pytest.raises(ValueError, match="unknown class"):
        fx.make(cls="cat")


def test_neighbours_differ_by_one_named_factor_and_exist():
    f = fx.make(cls="dog", state="sitting", accessory="hat")
    near = fx.neighbours(f)
    assert len(near) == len(set(near))
    for g in near:
        assert fx.is_valid(g)
        assert len(fx.changed(f, g)) == 1 or "cls" in fx.changed(f, g)


def test_parts_divide_all_combinations_and_training_sees_every_value():
    parts = {p: set(splits.combinations(p)) for p in ("train", "validation", "test")}
    assert sum(len(p) for p in parts.values()) == 1088
    assert not parts["validation"] & parts["test"]
    for name in fx.FACTOR_NAMES:
        for cls in range(len(fx.CLASSES)):
            of_class = [f for f in parts["train"] if f.cls == cls]
            seen = {getattr(f, name) for f in of_class}
            if name != "colour":  # every class misses its held-out colours
                expected = {cls} if name == "cls" else set(range(len(fx.values(name, cls))))
                assert seen == expected
    assert {f.colour for f in parts["train"]} == set(range(len(fx.COLOURS)))


def test_drawn_factors_belong_to_the_part_asked_for():
    import random

    rng = random.Random(0)
    for part in ("train", "validation", "test"):
        for _ in range(300):
            f = splits.draw_factors(rng, rng.randrange(6), part)
            assert splits.part_of(f) == part
            assert fx.is_valid(f)
