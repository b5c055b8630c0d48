"""The command `bench`: its table, its JSON, its mistakes; for a TPU where libtpu is installed."""

import importlib.util
import json

import pytest

SHORT = ("--repeats=2", "--quiet")
FEWER = (
    "--config.embedding.steps=2",
    "--config.tuning.base.steps=2",
    "--config.tuning.sr1.steps=1",
)


def test_the_command_prints_a_table_and_writes_json(imagic, preset, tmp_path):
    flags = (f"--config={preset}", *SHORT, "--json=results/tiny.json")
    code, out, err = imagic("bench", *flags, "--stages=text,sample sr2")
    assert code == 0, err
    result = json.loads((tmp_path / "results" / "tiny.json").read_text())
    assert result["format"] == 1
    assert result["preset"] == "tiny_preset"
    assert set(result) == {
        "preset", "format", "model", "random_weights", "device", "versions", "settings", "rows",
        "edit", "peak_memory_gib",
    }  # fmt: skip
    assert [r["name"] for r in result["rows"]] == ["text", "sample sr2"]
    for r in result["rows"]:
        assert len(r["all_s"]) == 2
        assert r["least_s"] <= r["median_s"] <= r["most_s"]
        assert r["compile_cold_s"] > 0
        assert r["compile_warm_s"] > 0
        assert r["flops"] > 0
        assert r["flops_xla"] > 0
        assert r["memory_gib"] > 0
        assert r["compute_floor_s"] > 0
        assert r["name"] in out
    assert result["edit"] == {"measured": None, "parts_s": None}  # not all parts were timed
    assert result["device"]["chip"]["peak"] > 0


@pytest.mark.slow
def test_loops_and_whole_edits_are_timed(imagic, preset, tmp_path):
    flags = (f"--config={preset}", *SHORT, *FEWER, "--json=tiny.json", "--stages=embed,tune,edit")
    code, out, err = imagic("bench", *flags)
    assert code == 0, err
    result = json.loads((tmp_path / "tiny.json").read_text())
    assert [r["name"] for r in result["rows"]] == ["embed", "tune base", "tune sr1"]
    assert all(len(r["all_s"]) == 2 for r in result["rows"])
    assert len(result["edit"]["measured"]["all_s"]) == 2
    assert "whole edit, warm" in out


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--stages=embedd",), "--stages: this preset has no 'embedd'"),
        (("--repeats=0",), "--repeats must be a whole number"),
        (("--aot=v9:2x2",), "--aot=v9:2x2: name a TPU slice"),
        (("--aot=v4",), "name a TPU slice by generation and shape"),
        (("--fsdp=two",), "--fsdp must be a number"),
        (("--effort=3", "--aot=v4:2x2x1"), "--effort must lie in -1..1"),
        (("--effort=0",), "--effort goes with --aot"),
        (("--fsdp=2",), "--fsdp goes with --aot"),
    ],
)
def test_mistakes_are_one_sentence(imagic, preset, flags, said):
    code, out, err = imagic("bench", f"--config={preset}", "--quiet", *flags)
    assert code == 2
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not out


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="libtpu, TPU's compiler, is not installed"
)
def test_parts_are_compiled_for_a_tpu_once(imagic, preset, tmp_path):
    flags = (f"--config={preset}", "--aot=v5e:1x1", "--json=aot.json", "--quiet")
    code, out, err = imagic("bench", *flags, "--stages=tune base,sample base")
    assert code == 0, err
    result = json.loads((tmp_path / "aot.json").read_text())
    assert result["chip"]["name"] == "TPU v5e"
    assert "libtpu" in result["versions"]
    assert [r["name"] for r in result["rows"]] == ["tune base", "sample base"]
    assert result["edit"] is None
    for r in result["rows"]:
        assert r["fits"]
        assert 0 < r["memory_gib"] < 1
        assert r["flops_xla"] > 0
        assert r["roofline_s"] >= r["accessed"] / 819e9
    before = {r["name"]: r for r in result["rows"]}
    code, out, err = imagic("bench", *flags)
    assert code == 0, err
    after = json.loads((tmp_path / "aot.json").read_text())
    rows = {r["name"]: r for r in after["rows"]}
    assert {name: rows[name] for name in before} == before  # not compiled again
    assert after["edit"]["roofline_s"] > 0
    assert "estimate" in out
    code, _, err = imagic("bench", *flags, "--config.embedding.steps=7")
    assert code == 2
    assert "aot.json holds another job (different: settings.embedding.steps)" in err
