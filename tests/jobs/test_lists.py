"""Lists are read line by line; every edit has a folder that stays its own."""

import json

import pytest

from imagic_jax.errors import UserError
from imagic_jax.jobs.lists import read_list


@pytest.fixture
def home(tmp_path):
    for name in ("dog.png", "cat.png", "my car.png"):
        (tmp_path / name).touch()
    return tmp_path


def read(home, *rows):
    path = home / "jobs.jsonl"
    path.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in rows))
    return read_list(path)


def row(image="dog.png", text="a sitting dog", **rest):
    return {"image": image, "text": text, **rest}


def test_everything_that_a_line_may_say(home):
    found = read(home, row(eta=0.5, seed=7, seeds=[0, 1], out="x/y"), "\n", row("cat.png"))
    assert [r.number for r in found] == [1, 3]
    first, second = found
    assert (first.etas, first.seed, first.seeds, first.out) == ((0.5,), 7, (0, 1), "x/y")
    assert first.path == home / "dog.png"
    assert (second.etas, second.seed, second.seeds) == (None, None, None)
    assert second.out == "cat-a-sitting-dog"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", "no JSON"),
        ("[1]\n", "expected an object"),
        ("null\n", "expected an object"),
        ({"text": "a dog"}, "'image' is missing"),
        ({"image": "dog.png"}, "'text' is missing"),
        ({"image": "dog.png", "text": "  "}, "'text' is missing"),
        ({"image": "dog.png", "text": ["a"]}, "'text' is missing or no text"),
        (row(image="gone.png"), "there is no picture"),
        (row(image="."), "there is no picture"),
        (row(etas=[1]), "did you mean 'eta'"),
        (row(eta="much"), "eta must be a number"),
        (row(eta=[]), "'eta' is empty"),
        (row(eta=float("inf")), "eta must be a finite number"),
        (row(eta=True), "must hold numbers"),
        (row(seed=-1), "seed must be a whole number"),
        (row(seed=True), "'seed' must be a whole number"),
        (row(seeds=[0, 1.5]), "seeds must be a whole number"),
        (row(out="../elsewhere"), "below --out"),
        (row(out="/tmp/x"), "below --out"),
        (row(out="."), "below --out"),
        (row(out=3), "'out' must name a folder"),
    ],
)
def test_broken_lines_say_why(home, line, words):
    found = read(home, row("cat.png"), line)
    assert found[0].error == ""
    assert words in found[1].error


def test_folders_are_told_apart_and_do_not_depend_on_the_order(home):
    long = "a dog " * 30
    rows = [row(text=long + "one"), row(text=long + "two"), row()]
    first = {r.text: r.out for r in read(home, *rows)}
    second = {r.text: r.out for r in read(home, *reversed(rows))}
    assert first == second
    assert len(set(first.values())) == 3


def test_the_same_edit_twice_is_said(home):
    found = read(home, row(), row(), row("cat.png", out="a"), row("my car.png", out="a"))
    assert found[1].error == "the same as line 1"
    assert found[3].error == "'out' is that of line 3"


def test_tedbench_folders(home):
    (home / "originals").mkdir()
    (home / "originals" / "dog.png").touch()
    entries = [{"img_name": "dog.png", "target_text": "A photo of a dog."}, {"img_name": "x"}]
    (home / "input_list.json").write_text(json.dumps(entries))
    good, bad = read_list(home)
    assert good.path == home / "originals" / "dog.png"
    assert good.text == "A photo of a dog."
    assert "img_name and target_text" in bad.error


@pytest.mark.parametrize(
    ("content", "words"), [("", "is empty"), ("\n\n", "is empty"), (b"\xff\xfe\xfa", "as text")]
)
def test_what_is_no_list_is_refused(home, content, words):
    path = home / "jobs.jsonl"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=words):
        read_list(path)


@pytest.mark.parametrize("content", ["{", '{"a": 1}'])
def test_broken_tedbench_folders_are_refused(home, content):
    (home / "input_list.json").write_text(content)
    with pytest.raises(UserError, match="input_list"):
        read_list(home)
