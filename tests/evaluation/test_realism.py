"""KID of outputs and ideal edits of the same items."""

import json

import numpy as np
import pytest

from imagic_jax.errors import UserError
from imagic_jax.evaluation import realism
from imagic_jax.evaluation.contenders import Outcome
from imagic_jax.evaluation.flatland_bench import NO_COST
from imagic_jax.evaluation.items import draw
from imagic_jax.evaluation.realism import Realism, paired_kid
from imagic_jax.evaluation.units import pictures_file, save_pictures
from imagic_jax.metrics import fid


def test_equal_sets_are_at_zero_and_the_sum_over_pairs_is_plain():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 5))
    assert paired_kid(x, x) == (0.0, 0.0)

    def k(a, b):
        return (a @ b / 5 + 1) ** 3

    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    h = [k(x[i], x[j]) + k(y[i], y[j]) - k(x[i], y[j]) - k(x[j], y[i]) for i, j in pairs]
    assert paired_kid(x, y)[0] == pytest.approx(np.mean(h))
    drop = [np.mean([v for v, p in zip(h, pairs, strict=True) if i not in p]) for i in range(12)]
    assert paired_kid(x, y)[1] == pytest.approx(np.sqrt(np.var(drop) * 11))


def test_it_has_no_bias_where_sets_depend_on_each_other():
    """Outputs that stay near their item's ideal edit: the usual KID is pulled below zero."""
    rng = np.random.default_rng(0)
    ours, usual = [], []
    for _ in range(300):
        x = rng.normal(size=(20, 4))
        y = 0.9 * x + np.sqrt(1 - 0.81) * rng.normal(size=(20, 4))
        ours.append(paired_kid(x, y)[0])
        usual.append(fid.kid(x, y).value)
    assert abs(np.mean(ours)) < 4 * np.std(ours) / np.sqrt(300)
    assert np.mean(usual) < -4 * np.std(usual) / np.sqrt(300)


def mean_colour(pictures):
    return pictures.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def items():
    drawn = (draw("validation", "iid", "pose", i) for i in range(60))
    return [i for i in drawn if i is not None][: realism.LEAST]


def write(out, method, items, change):
    for item in items:
        pictures = np.stack([[change(item, s)] for s in (0.0, 1.0)])
        save_pictures(pictures_file(out, method, item), Outcome(pictures, NO_COST), (0.0, 1.0), [5])


def test_every_method_is_read_at_its_strength(items, tmp_path):
    write(tmp_path, "ideal", items, lambda i, s: i.pictures()[1][0] if s else 0 * i.pictures()[0])
    write(tmp_path, "dark", items, lambda i, s: 0.2 * i.pictures()[1][0])
    write(tmp_path, "few", items[:4], lambda i, s: i.pictures()[0])
    asked = {"ideal": 1.0, "dark": 1.0, "few": 1.0, "none": 1.0}
    found = realism.measure(items, asked, tmp_path, mean_colour)
    assert set(found) == {"ideal", "dark"}
    assert found["ideal"].kid == pytest.approx(0, abs=1e-4)  # but for bytes
    assert found["dark"].kid > 0.1
    assert found["dark"].pictures == realism.LEAST
    assert realism.measure(items, {"ideal": 0.0}, tmp_path, mean_colour)["ideal"].kid > 0.1


def test_what_was_found_is_kept_with_the_rows(tmp_path):
    assert realism.update([], {"imagic": 1.0}, tmp_path) == {}
    told = {"imagic": Realism(0.5, 0.1, 40)._asdict(), "other": Realism(1, 1, 40)._asdict()}
    (tmp_path / realism.FILE).write_text(json.dumps(told))
    assert realism.update([], {"imagic": 1.0}, tmp_path) == {"imagic": Realism(0.5, 0.1, 40)}
    (tmp_path / realism.FILE).write_text('{"imagic": 3}')
    with pytest.raises(UserError, match=r"realism\.json is broken"):
        realism.update([], {"imagic": 1.0}, tmp_path)
