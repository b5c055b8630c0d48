"""Results in published layouts are scored, and every one that cannot be is named."""

import dataclasses

import benchmark_folders as data
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation import (
    measures,
    published,
    published_differences,
    published_sheet,
    published_table,
    results,
)
from imagic_jax.evaluation.published_table import cluster_interval
from imagic_jax.evaluation.results import COPY, Candidate
from imagic_jax.jobs import pictures
from imagic_jax.metrics import catalog
from imagic_jax.runtime.progress import Reporter

SIZE = 64
OPENED = measures.open_for(["psnr"], masks=False, weights=None)
PLAIN = list(OPENED.metrics)
PSNR = PLAIN[0].identity


@pytest.fixture
def ted(tmp_path):
    folder = data.write_tedbench(tmp_path / "tedbench")
    data.write_results(folder / "imagic", side=128)
    return published.load("tedbench", folder, tmp_path)


@pytest.fixture
def imagic(tmp_path, ted):
    return tmp_path / "tedbench" / "imagic"


def score(benchmark, those, tmp_path, using=None, size=SIZE):
    path = tmp_path / "scores.jsonl"
    return results.score(benchmark, those, using or OPENED, size, path, Reporter(quiet=True))


def test_scores_are_those_of_the_pictures_at_the_size_of_comparison(ted, imagic, tmp_path):
    rows, strange = score(ted, results.candidates("imagic", imagic), tmp_path)
    assert not strange
    for item, row in zip(ted.items, rows, strict=True):
        a = pictures.load_source(item.image, SIZE).square
        b = pictures.load_source(imagic / item.output, SIZE).square
        expected = -10 * np.log10(np.square((a - b) / 2).mean())
        assert row["scores"][PSNR] == pytest.approx(expected, rel=1e-5)


def test_the_source_itself_is_the_anchor(ted, imagic, tmp_path):
    rows, _ = score(ted, [Candidate(COPY, None)], tmp_path)
    assert [r["scores"][PSNR] for r in rows] == [100.0] * 7


def test_every_result_that_cannot_be_scored_is_named(ted, imagic, tmp_path):
    names = data.RESULTS
    (imagic / names[0]).unlink()
    (imagic / names[1]).write_bytes((imagic / names[1]).read_bytes()[:500])
    data.picture(7, 128, 100).save(imagic / names[2])
    nan = np.full((64, 64), np.nan, np.float32)
    pil.fromarray(nan).save((imagic / names[3]).with_suffix(".tiff"), "TIFF")
    (imagic / names[3]).with_suffix(".tiff").rename(imagic / names[3])
    data.picture(8, 64, 64).save(imagic / names[4])
    data.picture(9).save(imagic / "another.png")
    rows, strange = score(ted, results.candidates("imagic", imagic), tmp_path)
    wrong = published_table.problems(ted, rows, strange)["imagic"]
    assert {k: len(v) for k, v in wrong.items()} == {
        "result missing": 1,
        "result unreadable": 1,
        "result not square": 1,
        "result not finite": 1,
        "result of another size": 1,
        "file of no item": 1,
    }
    for (what, named), name in zip(
        [(w, wrong[w][0]) for w in list(wrong) if w.startswith("result")],
        [names[0], names[1], names[2], names[3], names[4]],
        strict=True,
    ):
        assert named.startswith(name.removesuffix(".png")), what
    (line,) = published_table.lines(rows, PLAIN, None)
    assert (line.items, line.fixed[PSNR].items) == (3, 3)
    text = published_table.markdown(ted, [line], PLAIN, None, SIZE, {"imagic": wrong}, {})
    assert "| imagic | 3 of 7 |" in text
    assert "1 x result not square" in text
    assert "another.png" in text


def test_a_folder_of_something_else_says_which_names_are_expected(ted, tmp_path):
    data.write_results(tmp_path / "other", ["a/b.png"], side=32)
    with pytest.raises(UserError, match=r"expected names such as bird.*holds a/b\.png"):
        score(ted, [Candidate("other", tmp_path / "other")], tmp_path)
    with pytest.raises(UserError, match="there is no folder"):
        results.candidates("sdedit", tmp_path / "sdedit")


def test_scores_are_kept_and_only_what_changed_is_computed_again(ted, imagic, tmp_path):
    asked = []

    def compute(seen):
        asked.extend(seen.pairs.text)
        return PLAIN[0].score(seen)

    counted = dataclasses.replace(OPENED, metrics=(dataclasses.replace(PLAIN[0], score=compute),))
    those = results.candidates("imagic", imagic)
    first, _ = score(ted, those, tmp_path, counted)
    assert len(asked) == 7
    path = tmp_path / "scores.jsonl"
    path.write_text(path.read_text()[:-30])  # killed in the last line
    data.picture(50, 128, 128).save(imagic / data.RESULTS[2])
    again, _ = score(ted, those, tmp_path, counted)
    assert asked[7:] == [data.EDITS[2][1], data.EDITS[6][1]]
    assert [a == b for a, b in zip(first, again, strict=True)] == [i != 2 for i in range(7)]
    score(ted, those, tmp_path, counted, size=32)
    assert len(asked) == 16


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_results_may_have_another_ending(ted, imagic, tmp_path, suffix):
    path = imagic / data.RESULTS[0]
    pil.open(path).convert("RGB").save(path.with_suffix(suffix))
    path.unlink()
    rows, strange = score(ted, results.candidates("imagic", imagic), tmp_path)
    assert not strange
    assert not rows[0]["problems"]


def test_the_last_square_of_pie_benchs_strips_counts(tmp_path):
    pie = published.load("piebench", data.write_piebench(tmp_path / "pie"), tmp_path)
    opened = measures.open_for(None, masks=True, weights=None)
    known = opened.metrics
    for number, item in enumerate(pie.items):
        path = tmp_path / "m" / item.output
        path.parent.mkdir(parents=True, exist_ok=True)
        strip = pil.new("RGB", (2048, 512), (255, 0, 0))
        strip.paste(data.picture(number, 512, 512), (1536, 0))
        strip.save(path)
    rows, _ = score(pie, [Candidate("m", tmp_path / "m")], tmp_path, opened, 512)
    # Sources are JPEGs of the same pictures.
    assert all(r["scores"][PSNR] > 35 for r in rows)
    assert rows[2]["scores"][known[2].identity] is None  # its mask is everything
    wrong = published_table.problems(pie, rows, [])
    assert wrong["data"] == {"mask empty": ["200000000003: nothing is marked as to be edited"]}
    assert list(wrong["m"]) == [f"{m.identity} not defined" for m in known if "mask" in m.needs]
    kinds = published_table.by_type(rows, known)
    assert [k.name for k in kinds][:2] == ["m: add object", "m: change object"]
    (line,) = published_table.lines(rows, known, None)
    assert (line.fixed[PSNR].items, line.fixed[known[2].identity].items) == (4, 3)
    assert "(over 3)" in published_table.markdown(pie, [line], known, None, 512, wrong, {})


def test_folders_of_a_sweep_are_told_apart(tmp_path):
    for name in ("eta1-seed0", "eta0.5-seed10", "eta0.5-seed2", "eta-0.5-seed0", "work"):
        (tmp_path / name).mkdir()
    found = results.candidates("imagic", tmp_path)
    assert [(c.amount, c.seed) for c in found] == [(-0.5, 0), (0.5, 2), (0.5, 10), (1.0, 0)]


def test_the_sheet_shows_the_first_by_hash_and_the_worst(ted, imagic, tmp_path):
    (imagic / data.RESULTS[0]).unlink()
    those = [Candidate(COPY, None), *results.candidates("imagic", imagic)]
    rows, _ = score(ted, those, tmp_path)
    worst = min(
        (r for r in rows if r["method"] == "imagic" and r.get("scores")),
        key=lambda r: r["scores"][PSNR],
    )["item"]
    assert published_sheet._worst_first(ted, rows, PLAIN[0])[0].id == worst
    order = published_sheet.by_hash(ted.items)
    assert order == published_sheet.by_hash(ted.items[::-1])
    sheet = published_sheet.sheet(ted, those, rows, PLAIN[0], first=5, worst=2)
    both = published_sheet.sheet(ted, those, rows, PLAIN[0], first=7, worst=2)
    assert sheet.size == both.size  # five and two, or seven and none that is left
    assert sheet.width > 2 * 160


def row(item, value, amount=0.5, seed=0, group=None, clip=0.0):
    return {
        "item": item, "group": group or item, "edit_type": None, "method": "imagic",
        "knob": "eta", "amount": amount, "seed": seed, "problems": [],
        "scores": {PSNR: value, CLIP.identity: clip},
    }  # fmt: skip


CLIP = catalog.CATALOG["clip_cos"]


def test_seeds_are_averaged_first_and_the_best_has_columns_of_its_own():
    rows = [row("a", 10.0, clip=0.2), row("a", 20.0, seed=1, clip=0.1), row("b", 30.0)]
    rows += [row("a", 5.0, amount=1.0, clip=0.9), row("b", 7.0, amount=1.0, clip=0.8)]
    low, high, picked = published_table.lines(rows, [*PLAIN, CLIP], CLIP)
    assert low.fixed[PSNR].mean == (15.0 + 30.0) / 2
    assert low.best[PSNR].mean == (10.0 + 30.0) / 2
    assert (low.best_of, high.best_of, high.best) == (2, 1, {})
    assert not picked.fixed
    assert (picked.best[PSNR].mean, picked.best_of) == (6.0, 3)
    lines = published_table._rows([low, high, picked], [*PLAIN, CLIP], CLIP, 2)
    assert "clip_cos, best of N by clip_cos" in lines[0]
    assert len({line.count("|") for line in lines}) == 1
    assert "(N = 3)" in lines[-1]


def test_the_interval_resamples_pictures_not_items():
    """All items of a picture alike: ten copies of each say no more than one of each."""
    rng = np.random.default_rng(1)
    values = rng.normal(size=12)
    groups = list(range(12))
    once = cluster_interval(values, groups)
    often = cluster_interval(np.repeat(values, 10), np.repeat(groups, 10).tolist())
    np.testing.assert_allclose(once, often)
    assert once[0] < values.mean() < once[1]
    # 12 independent values: close to the normal interval.
    half = 1.96 * values.std() / np.sqrt(12)
    assert (once[1] - once[0]) / 2 == pytest.approx(half, rel=0.1)
    assert np.isnan(cluster_interval(np.zeros(0), [])).all()


def edited(method, item, group, value, amount=None, seed=None):
    return {
        "method": method, "amount": amount, "knob": "eta", "seed": seed, "item": item,
        "group": group, "scores": {PSNR: value}, "problems": [], "edit_type": None,
    }  # fmt: skip


def test_methods_are_compared_on_the_items_that_both_have():
    rows = [edited("copy", i, i, 100.0) for i in "abc"]
    rows += [edited("imagic", i, i, v, 0.5, s) for i, v in zip("abc", (1, 2, 3), strict=True)
             for s in (0, 1)]  # fmt: skip
    rows += [edited("imagic", i, i, 9.0, 1.0, 0) for i in "abc"]
    rows += [edited("sdedit", "a", "a", 3.0), edited("sdedit", "b", "b", None)]
    rows += [edited("sdedit", "c", "c", 4.0), edited("ddib", "c", "c", 3.5)]
    rows += [{**edited("ddib", "b", "b", 0.0), "scores": None}]
    found = published_differences.differences(rows, PLAIN)
    said = {d.name: d.values[PSNR] for d in found}
    assert list(said) == [
        f"imagic, eta = {eta} minus {other}" for eta in ("0.5", "1") for other in ("sdedit", "ddib")
    ]
    first = said["imagic, eta = 0.5 minus sdedit"]
    assert (first.mean, first.items) == (-1.5, 2)
    assert first.low == -2.0
    assert first.high == -1.0
    assert said["imagic, eta = 1 minus ddib"][:4] == (5.5, 5.5, 5.5, 1)
    text = published_differences.markdown(found, PLAIN)
    assert "| imagic, eta = 0.5 minus sdedit | -1.500 [-2.000, -1.000] |" in text
    assert "| imagic, eta = 1 minus ddib | 5.500 [5.500, 5.500] (over 1) |" in text
    assert published_differences.differences(rows[:9], PLAIN) == []


def test_items_of_one_picture_are_no_independent_differences():
    """Ten items of two pictures: the interval is that of two."""
    rows = [edited("a", str(i), i % 2, float(i % 2)) for i in range(10)]
    rows += [edited("b", str(i), i % 2, 0.0) for i in range(10)]
    (d,) = published_differences.differences(rows, PLAIN)
    assert d.values[PSNR][:3] == (0.5, 0.0, 1.0)
