"""`imagic study`: from result folders to a page, from answers to a table."""

import json

import benchmark_folders as data
import pytest
import raters as people

from imagic_jax.evaluation import study_answers


@pytest.fixture
def folders(tmp_path):
    """TEdBench in miniature with the results of three methods, the last one incomplete."""
    data.write_tedbench(tmp_path / "tedbench")
    data.write_results(tmp_path / "ours", side=64)
    data.write_results(tmp_path / "theirs", side=64, shift=200)
    data.write_results(tmp_path / "others", data.RESULTS[:5], side=64, shift=300)
    return tmp_path


MAKE = ("study", "--inputs=tedbench", "--to=s")


def test_from_folders_to_a_table(imagic, folders):
    code, out, err = imagic(*MAKE, "--results=a=ours,b=theirs,c=others", "--answers=4")
    assert code == 0, err
    assert "17 comparisons of 7 items; 4 forms of 18 trials give 4 answers to each" in out
    assert f"left out: {data.RESULTS[5].removesuffix('.png')}: result missing (c)" in out
    key = study_answers.read_key(folders / "s")
    better = {("a", "b"): 0.9, ("a", "c"): 0.9, ("b", "c"): 0.5}
    kinds = ["fair", "fair", "left", "careless"] * 4
    paths = people.write_answers(folders / "answers", key, kinds, better)
    (folders / "torn.json").write_text(paths[0].read_text()[:50])
    for files in ("answers,torn.json", ",".join(str(p) for p in paths)):
        code, _, err = imagic("study", f"--analyse={files}", "--design=s")
        assert code == 0, err
    files = ",".join(str(p) for p in [*paths, folders / "torn.json"])
    code, out, err = imagic("study", f"--analyse={files}", "--design=s")
    assert code == 0, err
    assert "16 raters, 0 of them unfinished" in out
    for name in ("all raters", "consistent raters"):
        assert f"| {name} | a : b | " in out
        assert f"| {name} | c | -" in out
    assert "torn.json: broken or cut off" in out
    record = json.loads((folders / "s" / "analysis.json").read_text())
    (result,) = record["questions"].values()
    assert result["all raters"]["answers"] == 16 * 17
    assert result["consistent raters"]["raters"] < 13
    assert record["left_out"]


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["study"], "--results is missing"),
        (["study", "--results=ours,theirs"], "--inputs is missing"),
        ([*MAKE, "--results=ours"], "must name two folders"),
        ([*MAKE, "--results=ours,ours"], "names ours twice"),
        ([*MAKE, "--results=ours,none"], "there is no folder none"),
        ([*MAKE, "--results=ours,theirs", "--truth=t"], "--truth: there is no folder t"),
        ([*MAKE, "--results=ours,theirs", "--answers=0"], "--answers must be a whole number"),
        ([*MAKE, "--results=ours,theirs", "--inputs=ours"], "--inputs: ours is no benchmark"),
        ([*MAKE, "--results=ours,theirs", "--inputs=x"], "--inputs: there is no folder x"),
        (["study", "--analyse=a.json"], "--design is missing"),
        (["study", "--analyse=a.json", "--design=ours"], "has no key.json"),
    ],
)
def test_flags_that_mean_nothing(imagic, folders, flags, named):
    code, _, err = imagic(*flags)
    assert code == 2
    assert named in err
    assert not (folders / "s").exists()


def test_a_broken_list_is_a_fault_of_the_inputs(imagic, folders):
    (folders / "tedbench" / "input_list.json").write_text("{}")
    code, _, err = imagic(*MAKE, "--results=ours,theirs")
    assert code == 2
    assert "--inputs: " in err


def test_addresses_that_tell_a_method_are_warned_of(imagic, folders):
    line = ["study", "--inputs=tedbench", "--results=ours,theirs", "--to=ours-study"]
    code, out, _ = imagic(*line, "--answers=1")
    assert code == 0
    assert "would tell raters of ours" in out


def test_broken_keys_are_refused(imagic, folders):
    (folders / "k").mkdir()
    for text in ("{", "[]", "{}"):
        (folders / "k" / "key.json").write_text(text)
        code, _, err = imagic("study", "--analyse=a.json", "--design=k")
        assert code == 2
        assert "broken or of another version" in err
