"""User studies: balanced designs, pages that tell nothing, and what simulated raters say."""

import itertools
import json
import re
import shutil
from collections import Counter

import benchmark_folders as data
import numpy as np
import pytest
import raters as people
import standalone
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation import (
    published,
    study_analysis,
    study_answers,
    study_design,
    study_folder,
)
from imagic_jax.evaluation.study_answers import Choice

METHODS = ("imagic", "sdedit", "ddib")


@pytest.fixture
def ted(tmp_path):
    folder = data.write_tedbench(tmp_path / "tedbench")
    for number, name in enumerate((*METHODS, "truth")):
        data.write_results(tmp_path / name, side=64, shift=100 * (number + 1))
    return published.load("tedbench", folder, tmp_path)


def make(ted, folder, methods=METHODS, truth=True, trials=6, count=14, seed=0, quality=False):
    where = {m: folder / m for m in methods}
    entries, problems = study_design.collect(ted, where, folder / "truth" if truth else None)
    pairs, alike = study_design.comparisons(entries)
    forms = study_design.forms(entries, pairs, trials, count, seed)
    study_folder.write(folder / "study", forms, methods, seed, quality)
    return forms, study_answers.read_key(folder / "study"), [*problems, *alike]


def test_every_comparison_is_shown_equally_often_and_on_either_side(ted, tmp_path):
    forms, _, _ = make(ted, tmp_path, trials=6, count=14)
    main = [t for f in forms for t in f if t.kind == "main"]
    shown = Counter((t.entry.item, frozenset((t.left, t.right))) for t in main)
    assert len(shown) == 7 * 3
    assert max(shown.values()) - min(shown.values()) <= 1
    for item, pair in shown:
        lefts = Counter(t.left for t in main if t.entry.item == item and {t.left, t.right} == pair)
        a, b = (lefts[m] for m in pair)
        assert abs(a - b) <= 1
    for form in forms:
        seen = [(t.entry.item, frozenset((t.left, t.right))) for t in form if t.kind == "main"]
        assert len(set(seen)) == len(seen) == 6


def test_one_trial_comes_again_swapped_and_later(ted, tmp_path):
    forms, _, _ = make(ted, tmp_path, trials=8)
    for form in forms:
        (again,) = [i for i, t in enumerate(form) if t.kind == "duplicate"]
        (first,) = [
            i for i, t in enumerate(form)
            if t.kind == "main" and t.entry.item == form[again].entry.item
            and {t.left, t.right} == {form[again].left, form[again].right}
        ]  # fmt: skip
        assert again - first >= study_design.GAP
        assert (form[first].left, form[first].right) == (form[again].right, form[again].left)


def test_the_known_answer_stands_against_another_picture(ted, tmp_path):
    forms, _, _ = make(ted, tmp_path)
    for form in forms:
        (gold,) = [t for t in form if t.kind == "gold"]
        assert {gold.left, gold.right} == {study_design.TRUTH, study_design.UNRELATED}
        assert gold.picture(study_design.TRUTH).parent.name == "truth"
        assert gold.unrelated not in {e.input for e in [gold.entry]}
    shutil.rmtree(tmp_path / "study")
    without, _, _ = make(ted, tmp_path, truth=False)
    assert not [t for form in without for t in form if t.kind == "gold"]


def test_the_design_is_the_seeds(ted, tmp_path):
    make(ted, tmp_path, seed=1)
    first = (tmp_path / "study" / "page" / "index.html").read_text()
    make(ted, tmp_path, seed=1)
    assert (tmp_path / "study" / "page" / "index.html").read_text() == first
    with pytest.raises(UserError, match="holds another study"):
        make(ted, tmp_path, seed=2)
    assert (tmp_path / "study" / "page" / "index.html").read_text() == first
    assert sorted(p.name for p in (tmp_path / "study").iterdir()) == ["key.json", "page"]


def test_the_page_names_no_method_and_its_pictures_are_alike(ted, tmp_path):
    make(ted, tmp_path)
    page = tmp_path / "study" / "page"
    html = (page / "index.html").read_text()
    standalone.check(page / "index.html")
    for word in (*METHODS, "truth", "unrelated", "gold", "duplicate"):
        assert word not in html
    used = set(re.findall(r"pictures/[0-9a-f]+\.png", html))
    assert used == {p.relative_to(page).as_posix() for p in page.rglob("*.png")}
    for name in used:
        with pil.open(page / name) as picture:
            assert (picture.size, picture.info) == ((64, 64), {})
    assert not re.search(r"https?://|//cdn|@import|fetch\(|XMLHttp|cookie|localStorage", html)


def test_texts_cannot_break_out_of_the_page(tmp_path):
    folder = data.write_tedbench(tmp_path / "tedbench")
    path = folder / "input_list.json"
    evil = "</script><script>alert(1)</script><!--"
    path.write_text(json.dumps([{"img_name": "bird.png", "target_text": evil}]))
    ted = published.load("tedbench", folder, tmp_path)
    for number, name in enumerate(METHODS):
        data.write_results(tmp_path / name, [ted.items[0].output], 64, 10 * number)
    make(ted, tmp_path, truth=False)
    html = (tmp_path / "study" / "page" / "index.html").read_text()
    assert evil not in html
    assert html.count("</script>") == 1


def test_missing_and_identical_results_are_named(ted, tmp_path):
    (tmp_path / "sdedit" / data.RESULTS[0]).unlink()
    same = (tmp_path / "imagic" / data.RESULTS[1]).read_bytes()
    (tmp_path / "ddib" / data.RESULTS[1]).write_bytes(same)
    forms, _, problems = make(ted, tmp_path, trials=30, count=1)
    assert [(p.what, p.method) for p in problems] == [
        ("result missing", "sdedit"), ("identical results", ""),
    ]  # fmt: skip
    assert len(forms[0]) == 21 - 2 - 1 + 2
    with pytest.raises(UserError, match="there is no folder"):
        study_design.collect(ted, {"a": tmp_path / "imagic", "b": tmp_path / "none"}, None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="no item has two results"):
        study_design.collect(ted, {"a": tmp_path / "imagic", "b": tmp_path / "empty"}, None)


def test_a_study_is_not_written_over_other_things(ted, tmp_path):
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "thesis.tex").touch()
    with pytest.raises(UserError, match="is not empty and no study"):
        make(ted, tmp_path)


TWO = METHODS[:2]
BETTER = {("imagic", "sdedit"): 0.8}


def answered(ted, tmp_path, kinds, methods=TWO, better=BETTER, **how):
    _, key, _ = make(ted, tmp_path, methods, **how)
    paths = people.write_answers(tmp_path / "answers", key, kinds, better)
    return study_answers.read(paths, key)


def test_fair_raters_are_heard(ted, tmp_path):
    raters, left_out = answered(ted, tmp_path, ["fair"] * 60)
    assert not left_out
    assert all(r.consistent and r.gold and r.finished for r in raters)
    result = study_analysis.analyse(raters)
    (p,) = result["all raters"]["preferences"]
    assert p["low"] < 0.8 < p["high"]
    assert p["low"] > 0.5
    assert (p["answers"], p["raters"], p["pictures"]) == (360, 60, 5)
    assert abs(p["left"] - 0.5) < 0.08
    assert result["consistent raters who knew the known answer"]["raters"] == 60


def test_raters_who_always_choose_left_are_all_found(ted, tmp_path):
    raters, _ = answered(ted, tmp_path, ["left"] * 20 + ["fair"] * 40)
    assert [r.consistent for r in raters] == [False] * 20 + [True] * 40
    result = study_analysis.analyse(raters)
    (everyone,), (kept,) = (result[n]["preferences"] for n in ("all raters", "consistent raters"))
    assert everyone["raters"] == 60
    assert kept["raters"] == 40
    assert everyone["left"] > 0.6
    assert everyone["rate"] < kept["rate"]
    text = study_analysis.markdown(result, raters, [])
    assert "20 of 60 contradicted themselves" in text


def test_half_of_the_careless_pass_the_repetition(ted, tmp_path):
    raters, _ = answered(ted, tmp_path, ["careless"] * 400)
    passed = sum(bool(r.consistent) for r in raters)
    assert abs(passed - 200) < 60  # six standard deviations
    both = sum(bool(r.consistent and r.gold) for r in raters)
    assert abs(both - 100) < 52
    (p,) = study_analysis.analyse(raters)["all raters"]["preferences"]
    assert p["low"] < 0.5 < p["high"]


def test_unfinished_raters_count_but_are_not_taken_for_consistent(ted, tmp_path):
    _, key, _ = make(ted, tmp_path, TWO)
    record = people.record_of(key, 1, "fair", BETTER, "a")
    kinds = [key["trials"][a["trial"]]["kind"] for a in record["answers"]]
    record["answers"] = record["answers"][: kinds.index("duplicate")]
    path = tmp_path / "a.json"
    path.write_text(json.dumps([record]))
    ((rater,), _) = study_answers.read([path], key)
    assert (rater.consistent, rater.finished) == (None, False)
    result = study_analysis.analyse([rater])
    assert result["all raters"]["answers"] == kinds[: len(record["answers"])].count("main")
    assert result["consistent raters"]["answers"] == 0
    assert "| consistent raters | no answers |" in study_analysis.markdown(result, [rater], [])


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"study": "another"}, "another study"),
        ({"rater": ""}, "no rater"),
        ({"answers": None}, "no answers of this program"),
        ({"form": 2}, "belongs to no trial of its form"),
        ({"answers": [{"trial": "x"}]}, "belongs to no trial"),
        ({"answers": [3]}, "belongs to no trial"),
        ("twice", "answer 2 belongs to no trial"),
        ("middle", "neither left nor right"),
        ("untimed", "no times"),
        ("none", "answers 0 of 1 questions"),
        ("torn", "broken or cut off"),
        ("list", "no answers of this program"),
    ],
)
def test_files_that_cannot_be_used_are_named(ted, tmp_path, change, named):
    _, key, _ = make(ted, tmp_path, TWO)
    good = people.record_of(key, 1, "fair", BETTER, "good")
    bad = people.record_of(key, 1, "fair", BETTER, "bad")
    first = bad["answers"][0]
    if change == "twice":
        bad["answers"].insert(1, first)
    elif change == "middle":
        first["choices"] = ["both"]
    elif change == "untimed":
        first["rt_ms"] = None
    elif change == "none":
        first["choices"], first["rt_ms"] = [], []
    elif isinstance(change, dict):
        bad.update(change)
    text = json.dumps(bad)
    text = {"torn": text[:-9], "list": '["a"]'}.get(str(change), text)
    (tmp_path / "bad.json").write_text(text)
    (tmp_path / "good.json").write_text(json.dumps(good))
    raters, left_out = study_answers.read([tmp_path / "bad.json", tmp_path / "good.json"], key)
    assert [r.name for r in raters] == ["good"]
    assert len(left_out) == 1
    assert named in left_out[0]
    assert "bad.json" in study_analysis.markdown(study_analysis.analyse(raters), raters, left_out)
    with pytest.raises(UserError, match="no usable answers"):
        study_answers.read([tmp_path / "bad.json"], key)


def test_the_longer_of_two_records_of_one_rater_counts(ted, tmp_path):
    _, key, _ = make(ted, tmp_path, TWO)
    whole = people.record_of(key, 1, "fair", BETTER, "a")
    part = {**whole, "answers": whole["answers"][:2], "finished": False}
    path = tmp_path / "a.json"
    for records in ([whole, part], [part, whole]):
        path.write_text(json.dumps(records))
        ((rater,), left_out) = study_answers.read([path], key)
        assert rater.finished
        assert "again" in left_out[0]


def test_bradley_terry_finds_the_strengths_that_made_the_wins():
    strength = np.asarray([1.0, 0.2, -1.2])
    probability = 1 / (1 + np.exp(strength[None] - strength[:, None]))
    wins = 1e6 * probability * (1 - np.eye(3))
    met = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(study_analysis.bradley_terry(wins, met), strength, atol=1e-4)
    many = study_analysis.bradley_terry(np.stack([wins, wins.T]), met)
    np.testing.assert_allclose(many, [strength, -strength], atol=1e-4)


def test_of_two_methods_the_strengths_are_the_log_odds():
    wins = np.asarray([[0.0, 30.0], [10.0, 0.0]])
    met = ~np.eye(2, dtype=bool)
    a, b = study_analysis.bradley_terry(wins, met)
    assert a - b == pytest.approx(np.log(30.5 / 10.5))
    assert np.isfinite(study_analysis.bradley_terry(0 * wins, met)).all()


def test_methods_that_never_met_have_no_common_strengths():
    choices = [
        Choice("r", "i", "g", *names, True, 1.0) for names in (("a", "b"), ("b", "a"), ("c", "d"))
    ]
    assert study_analysis.strengths(choices) == {}
    linked = [*choices, Choice("r", "i", "g", "b", "c", True, 1.0)]
    assert list(study_analysis.strengths(linked)) == ["a", "b", "c", "d"]


def test_three_methods_are_ranked(ted, tmp_path):
    strength = dict(zip(sorted(METHODS), (0.0, 1.5, -1.5), strict=True))  # ddib, imagic, sdedit
    better = {
        (a, b): 1 / (1 + np.exp(strength[b] - strength[a]))
        for a, b in itertools.combinations(sorted(METHODS), 2)
    }
    raters, _ = answered(ted, tmp_path, ["fair"] * 120, METHODS, better, trials=12, count=60)
    found = study_analysis.analyse(raters)["all raters"]["strengths"]
    for method, (point, low, high) in found.items():
        assert low <= point <= high
        assert low < strength[method] < high
    text = study_analysis.markdown(study_analysis.analyse(raters), raters, [])
    assert "| all raters | imagic | +1." in text


def test_the_interval_is_wider_than_that_of_independent_answers():
    """Raters differ, and pictures do: one answer more is no independent answer more."""
    rng = np.random.default_rng(0)
    taste, ease = rng.normal(size=30), rng.normal(size=20)
    choices = []
    for r, g in itertools.product(range(30), range(20)):
        first = rng.random() < 1 / (1 + np.exp(-(0.5 + taste[r] + ease[g])))
        names = ("a", "b") if first else ("b", "a")
        choices.append(Choice(f"r{r}", f"i{g}", f"g{g}", *names, True, 2.0))
    (p,) = study_analysis.preferences(choices)
    naive = 1.96 * np.sqrt(p.rate * (1 - p.rate) / len(choices))
    assert p.low < p.rate < p.high
    assert (p.high - p.low) / 2 > 2 * naive


def test_two_questions_are_analysed_apart(ted, tmp_path):
    _, key, _ = make(ted, tmp_path, TWO, quality=True)
    paths = people.write_answers(tmp_path / "answers", key, ["fair"] * 3, BETTER)
    record = json.loads(paths[0].read_text())
    for answer in record["answers"]:
        answer["choices"][1] = {"left": "right", "right": "left"}[answer["choices"][0]]
    paths[0].write_text(json.dumps(record))
    (first,), (second,) = (study_answers.read(paths[:1], key, q)[0] for q in (0, 1))
    assert [c.chosen for c in first.choices] == [c.other for c in second.choices]
