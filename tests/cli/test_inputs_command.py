"""`imagic edit --inputs`: lists over lanes, what is broken, what is missing, the same bits."""

import json
import shutil

import jax
import numpy as np
import pytest
import standalone
from PIL import Image as pil

from imagic_jax.backbones import generate_lanes
from imagic_jax.jobs import fits
from imagic_jax.runtime import lanes
from imagic_jax.runtime.compilation import counted

TEXTS = ("a sitting dog", "a red car", "a blue bird")


@pytest.fixture(scope="module")
def flags(preset, tiny_model):
    """One stage alone: half the compilation."""
    return (f"--config={preset}", f"--model={tiny_model / 'base'}", "--seeds=0")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A list of three pictures, one of them no picture, and two lines that are none."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        pil.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    rows = [
        {"image": "a.png", "text": TEXTS[0]},
        {"image": "b.png", "text": TEXTS[1], "eta": [0.25, 0.5, 0.75, 1, 1.5], "seed": 3},
        {"image": "broken.png", "text": TEXTS[1]},
        {"image": "c.png", "text": TEXTS[2], "out": "third"},
        {"image": "a.png", "txt": TEXTS[0]},
    ]
    lines = [json.dumps(r) for r in rows]
    (folder / "jobs.jsonl").write_text("\n".join([*lines, "", "{no json"]) + "\n")
    return folder / "jobs.jsonl"


@pytest.fixture(scope="module")
def main():
    from imagic_jax.cli.main import main

    return lambda *arguments: main([str(a) for a in arguments])


def programs():
    return lanes._run_lanes._cache_size() + generate_lanes._draw_lanes._cache_size()


@pytest.fixture(scope="module")
def done(main, flags, inputs, tmp_path_factory):
    """The list, edited on two devices: (folder, exit code, programs compiled)."""
    out = tmp_path_factory.mktemp("list") / "edits"
    before = programs()
    code = main("edit", *flags, f"--inputs={inputs}", "--mesh=image:2", f"--out={out}", "--quiet")
    return out, code, programs() - before


def arrays(folder):
    return jax.tree.leaves(fits.load_fit(folder / "fit"))


def test_one_program_per_loop_and_drawing_for_all_groups(done):
    _, code, compiled = done
    assert code == 1  # some lines failed
    assert compiled == 3  # embedding, tuning, drawing; the three pictures came in two groups


def test_every_line_is_accounted_for(done):
    out, _, _ = done
    record = json.loads((out / "summary.json").read_text())
    assert record["counts"] == {"done": 3, "failed": 1, "broken line": 2}
    rows = {r["line"]: r for r in record["edits"]}
    assert rows[1]["folder"] == "a-a-sitting-dog"
    assert rows[4]["folder"] == "third"
    assert "broken.png" in rows[3]["error"]
    assert "did you mean 'text'" in rows[5]["error"]
    assert "no JSON" in rows[7]["error"]
    assert rows[2]["strengths"] == [0.25, 0.5, 0.75, 1, 1.5]
    assert rows[2]["reconstruction_psnr"] > 0
    table = (out / "summary.md").read_text()
    assert table.count("\n|") == 2 + 6
    assert len(standalone.check(out / "index.html")) == 3 * 3  # two links and a strip each
    for folder in ("a-a-sitting-dog", "b-a-red-car", "third"):
        assert (out / folder / "result.json").is_file()
        assert not (out / folder / "checkpoints").exists()


def test_results_are_those_of_single_runs_to_the_bit(done, main, flags, inputs, tmp_path):
    out, _, _ = done
    single = ["edit", *flags, "--quiet", f"--image={inputs.parent / 'b.png'}"]
    single += [f"--text={TEXTS[1]}", "--eta=0.25,0.5,0.75,1,1.5", "--seed=3"]
    assert main(*single, f"--out={tmp_path / 'b'}") == 0
    for ours, theirs in zip(arrays(out / "b-a-red-car"), arrays(tmp_path / "b"), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for path in sorted((tmp_path / "b").glob("edited_*.png")):
        beside = out / "b-a-red-car" / path.name
        np.testing.assert_array_equal(np.asarray(pil.open(path)), np.asarray(pil.open(beside)))


def test_given_again_it_does_only_what_is_missing(done, main, flags, inputs, tmp_path, capsys):
    out = tmp_path / "edits"
    shutil.copytree(done[0], out)
    shutil.rmtree(out / "third")
    kept = (out / "a-a-sitting-dog" / "result.json").stat().st_mtime_ns
    command = ("edit", *flags, f"--inputs={inputs}", "--mesh=image:2", f"--out={out}")
    with counted(all_threads=True) as compiled:
        assert main(*command) == 1
    assert compiled.programs == 0  # nothing new, whatever the pictures
    err = capsys.readouterr().err
    assert "2 of them done before" in err
    assert "pictures: 4" in err
    assert (out / "a-a-sitting-dog" / "result.json").stat().st_mtime_ns == kept
    for a, b in zip(arrays(out / "third"), arrays(done[0] / "third"), strict=True):
        np.testing.assert_array_equal(a, b)
    statuses = [r["status"] for r in json.loads((out / "summary.json").read_text())["edits"]]
    assert statuses == [
        "done before",
        "done before",
        "failed",
        "done",
        "broken line",
        "broken line",
    ]


def test_other_amounts_are_drawn_without_fitting(done, main, flags, inputs, tmp_path, capsys):
    out = tmp_path / "edits"
    shutil.copytree(done[0], out)
    assert main("edit", *flags, f"--inputs={inputs}", f"--out={out}", "--eta=0.5", "--quiet") == 1
    assert (out / "third" / "edited_eta0.5_seed0.png").is_file()
    fit = "fit/fit.json"
    assert (out / "third" / fit).read_text() == (done[0] / "third" / fit).read_text()


def test_a_picture_that_diverges_leaves_the_others(main, flags, inputs, tmp_path, capsys):
    code = main(
        "edit",
        *flags,
        f"--inputs={inputs}",
        "--mesh=image:2",
        f"--out={tmp_path / 'o'}",
        "--config.tuning.base.learning_rate=1e30",
    )
    assert code == 1
    record = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert record["counts"] == {"failed": 4, "broken line": 2}
    assert "lower the learning rate" in record["edits"][0]["error"]


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--inputs=nowhere.jsonl", "there is no file or folder"),
        ("--inputs=.", "has no input_list.json"),
        ("--mesh=image:99", "and there are 8"),
        ("--mesh=pictures:2", "names no axis"),
        ("--save_every=soon", "is not understood"),
        ("--keep_saves=0", "--keep_saves must be a whole number"),
        ("--process_id=1", "given together"),
        ("--side_by_side", "tunes one stage alone"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_sentence(imagic, flags, inputs, flag, words):
    code, _, err = imagic("edit", *flags, f"--inputs={inputs}", "--out=o", flag)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
