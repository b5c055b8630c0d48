"""The user study's page in a real browser: simulated raters, keyboard and mouse, no network."""

import json
import time

import benchmark_folders as data
import pytest
import raters as people

from imagic_jax.evaluation import (
    published,
    study_analysis,
    study_answers,
    study_design,
    study_folder,
)

METHODS = ("imagic", "sdedit")
BETTER = {METHODS: 0.8}

pytestmark = pytest.mark.browser


def make(tmp_path, side=64, quality=False):
    folder = data.write_tedbench(tmp_path / "tedbench")
    ted = published.load("tedbench", folder, tmp_path)
    for number, name in enumerate((*METHODS, "truth")):
        data.write_results(tmp_path / name, side=side, shift=100 * (number + 1))
    where = {m: tmp_path / m for m in METHODS}
    entries, _ = study_design.collect(ted, where, tmp_path / "truth")
    pairs, _ = study_design.comparisons(entries)
    forms = study_design.forms(entries, pairs, 6, 4, 0)
    study_folder.write(tmp_path / "study", forms, METHODS, 0, quality)
    return tmp_path / "study"


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study whose page does not make tests wait."""
    monkeypatch.setattr(study_folder, "DWELL", 0.05)
    return make(tmp_path)


def until(condition, seconds=20.0):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)
    return value


def open_form(browser, study, form):
    browser.get("about:blank")
    browser.get(f"{(study / 'page' / 'index.html').as_uri()}#form={form}")
    return lambda name: browser.find_element("id", name)


def ready(find, number):
    """Waits until trial `number` can be answered."""
    until(
        lambda: find("count").text.startswith(f"{number} of") and find("choose-left").is_enabled()
    )


def rate(browser, study, form, kind, name):
    """Answers a whole form as a simulated rater does; returns what the page would save."""
    key = study_answers.read_key(study)
    trials = [v for v in key["trials"].values() if v["form"] == form]
    rng = people.random.Random(name)
    rng.seed_name = name
    find = open_form(browser, study, form)
    find("start").click()
    for number, trial in enumerate(trials, 1):
        ready(find, number)
        side = people.answer_of(kind, trial, BETTER, rng)
        if number % 2:
            find(f"choose-{side}").click()
        else:
            arrow = {"left": "\ue012", "right": "\ue014"}[side]
            browser.find_element("tag name", "body").send_keys(arrow)
    until(lambda: find("end").is_displayed())
    return json.loads(find("answers").get_attribute("value"))


def test_simulated_raters_are_analysed_as_what_they_are(browser, study, tmp_path):
    kinds = ["fair", "left", "fair", "careless", "fair"]
    records = [
        rate(browser, study, 1 + number % 4, kind, f"{kind}{number}")
        for number, kind in enumerate(kinds)
    ]
    (tmp_path / "answers.json").write_text(json.dumps(records))
    key = study_answers.read_key(study)
    raters, left_out = study_answers.read([tmp_path / "answers.json"], key)
    assert not left_out
    assert len({r.name for r in raters}) == 5
    assert all(r.finished for r in raters)
    fair, biased = raters[0], raters[1]
    assert (fair.consistent, fair.gold, biased.consistent) == (True, True, False)
    assert [c.left for c in biased.choices] == [True] * 6
    # What the page recorded is what was meant, side by side with the key.
    expected = people.record_of(key, 1, "fair", BETTER, "fair0")
    assert [a["choices"] for a in records[0]["answers"]] == [
        a["choices"] for a in expected["answers"]
    ]
    assert all(a["rt_ms"][0] >= 50 for r in records for a in r["answers"])
    (p,) = study_analysis.analyse(raters)["all raters"]["preferences"]
    assert p["answers"] == 30


def test_the_saved_file_holds_the_answers(browser, study):
    record = rate(browser, study, 1, "fair", "a")
    browser.find_element("id", "save").click()
    path = browser.downloads / f"answers-{record['rater']}.json"
    until(path.is_file)
    assert json.loads(path.read_text()) == record


def test_nothing_but_files_is_loaded_and_no_method_is_named(browser, study):
    browser.get_log("performance")
    browser.get_log("browser")
    find = open_form(browser, study, 2)
    find("start").click()
    ready(find, 1)
    for name in ("left", "input", "right"):
        picture = find(name)
        assert picture.get_property("naturalWidth") == 64
        assert picture.size["width"] % 64 == 0  # whole-number enlargement
        assert picture.size["width"] == picture.size["height"] > 64
        assert picture.value_of_css_property("image-rendering") == "pixelated"
        assert picture.get_attribute("alt").split()[0] == name
    page = browser.execute_script("return document.documentElement.outerHTML")
    visible = page + browser.current_url.replace(str(study.parent), "")
    for word in (*METHODS, "truth", "unrelated", "gold", "duplicate"):
        assert word not in visible
    asked = browser.asked()
    assert len(asked) >= 4
    assert {url.split(":")[0] for url in asked} <= {"file", "about", "data", "blob"}
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.cookie + localStorage.length") == "0"


def test_no_answer_is_taken_before_a_moment_of_looking(browser, tmp_path):
    study = make(tmp_path)
    find = open_form(browser, study, 1)
    find("start").click()
    until(lambda: find("count").text.startswith("1 of"))
    body = browser.find_element("tag name", "body")
    body.send_keys("\ue012")
    assert not find("choose-left").is_enabled()
    assert find("count").text.startswith("1 of")
    began = time.monotonic()
    ready(find, 1)
    body.send_keys("\ue014")
    until(lambda: find("count").text.startswith("2 of"))
    assert time.monotonic() - began > 0.5
    given = browser.execute_script("return answers")
    assert given[0]["choices"] == ["right"]
    assert given[0]["rt_ms"][0] >= 1500


def test_a_second_question_is_asked_about_the_same_pictures(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(study_folder, "DWELL", 0.05)
    study = make(tmp_path, side=256, quality=True)
    find = open_form(browser, study, 3)
    find("start").click()
    ready(find, 1)
    source = find("left").get_attribute("src")
    assert find("left").size["width"] == 256
    find("choose-left").click()
    until(lambda: find("question").text == study_design.QUALITY)
    ready(find, 1)
    assert find("left").get_attribute("src") == source
    find("choose-right").click()
    until(lambda: find("count").text.startswith("2 of"))
    assert browser.execute_script("return answers[0].choices") == ["left", "right"]


def test_a_missing_picture_is_said(browser, study):
    for path in (study / "page" / "pictures").iterdir():
        path.unlink()
    find = open_form(browser, study, 1)
    find("start").click()
    until(lambda: "missing" in find("trouble").text)
