"""`imagic evaluate` on public benchmarks: end to end, killed and resumed, or scored alone."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

import benchmark_folders as data
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.evaluation import benchmark_editors
from imagic_jax.evaluation.benchmark_editors import Variant
from imagic_jax.jobs.pictures import load_source
from imagic_jax.runtime.loop import NonFiniteLoss

PSNR = "psnr{peak=1,cap=100dB}"
RUN = "from imagic_jax.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"


@pytest.fixture
def ted(tmp_path):
    return data.write_tedbench(tmp_path / "tedbench")


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_pictures(imagic, preset, ted, tmp_path):
    """SIGKILL amid items, a torn line and a torn picture, and the same command again."""
    flags = [f"--config={preset}", *flags_of(ted), "--out=out", "--eta=0.5,1"]
    flags += ["--config.tuning.sr1.steps=0"]  # one program less to compile
    done = tmp_path / "out" / "imagic" / "items.jsonl"
    command = [sys.executable, "-c", RUN, "evaluate", *flags]
    process = subprocess.Popen(command, env=os.environ, cwd=tmp_path, stderr=subprocess.PIPE)
    while not (done.is_file() and done.read_text().count("\n") >= 2):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stderr.close()
    first = lines(done)
    torn = tmp_path / "out" / "imagic" / "eta1-seed0" / data.RESULTS[0]
    torn.write_bytes(torn.read_bytes()[:100])
    done.write_text(done.read_text() + '{"item": "door')
    code, _, err = imagic("evaluate", *flags)
    assert code == 0, err
    rows = {r["item"]: r for r in lines(done)}
    assert sorted(rows) == sorted(n.removesuffix(".png") for n in data.RESULTS)
    for row in first[1:]:  # what was whole was not made again
        assert rows[row["item"]] == row
    for variant in ("eta0.5-seed0", "eta1-seed0"):  # the torn one has the same pixels again
        assert (tmp_path / "out" / "imagic" / variant / data.RESULTS[0]).stat().st_size > 100
    assert rows[first[0]["item"]]["pictures"] == first[0]["pictures"]


def test_tedbench_from_end_to_end(imagic, preset, ted, tmp_path):
    flags = [f"--config={preset}", *flags_of(ted), "--out=out", "--eta=0.5,1"]
    flags += ["--config.tuning.sr1.steps=0"]  # one program less to compile
    code, out, err = imagic("evaluate", *flags)
    assert code == 0, err
    rows = lines(tmp_path / "out" / "imagic" / "items.jsonl")
    assert [r["output"] for r in rows] == list(data.RESULTS)
    assert not (tmp_path / "out" / "imagic" / "work").exists()
    for name in data.RESULTS:
        with pil.open(tmp_path / "out" / "imagic" / "eta0.5-seed0" / name) as picture:
            assert picture.size == (64, 64)
    assert "7 of 7 listed items, 5 pictures" in out
    assert "| copy | 7 | 100.0 [100.0, 100.0] |" in out
    assert "| imagic, eta and seed picked | 7 |" in out
    assert "(N = 2)" in out
    table = json.loads((tmp_path / "out" / "table.json").read_text())
    low, high = (table["table"][i]["fixed"][PSNR]["mean"] for i in (1, 2))
    assert table["table"][3]["best"][PSNR]["mean"] >= max(low, high)

    alone = ["evaluate", *flags_of(ted), "--score_only", "--results=out", "--out=alone"]
    code, scored, _ = imagic(*alone)  # its own results, scored as anyone's
    assert code == 0
    assert scored.replace("alone", "out") == out
    code, _, err = imagic("evaluate", *flags, "--steps=2")
    assert code == 2
    assert "different: sampling.steps" in err


def flags_of(ted):
    suite = ["--suite=tedbench", f"--data={ted}", "--quiet"]
    return [*suite, "--score_size=64", "--choose_by=psnr"]


def test_the_authors_results_are_scored_without_a_model(imagic, ted, monkeypatch, tmp_path):
    monkeypatch.setattr("imagic_jax.cli.edit.open_model", lambda *_: pytest.fail("opened a model"))
    data.write_results(ted / "imagic", data.RESULTS[:-1], side=256)
    line = ["evaluate", "--suite=tedbench", f"--data={ted}", "--score_only", "--out=s"]
    code, out, err = imagic(*line)
    assert code == 0, err
    assert "| imagic | 6 of 7 |" in out
    assert "* imagic: 1 x result missing: tree_1.jpeg-A_photo_of_a_tree._Taken_in_autumn" in out
    assert "* lpips_alex: " in out
    assert len(lines(tmp_path / "s" / "scores.jsonl")) == 14
    code, out, _ = imagic(*line, "--count=2")
    assert "2 of 2 listed items, 1 pictures" in out
    shutil.move(ted / "imagic", tmp_path / "elsewhere")
    code, _, err = imagic(*line)
    assert code == 2
    assert "there is no folder" in err
    assert imagic(*line, "--results=imagic=elsewhere")[0] == 0
    code, _, err = imagic(*line, "--results=sdedit=elsewhere")
    assert code == 2
    assert "add imagic=DIR" in err


@pytest.mark.slow
def test_piebench_from_end_to_end(imagic, preset, tmp_path):
    pie = data.write_piebench(tmp_path / "pie")
    flags = [f"--config={preset}", "--suite=piebench", f"--data={pie}", "--out=p", "--quiet"]
    flags += ["--methods=imagic,sdedit", "--eta=1", "--score_size=64"]
    code, out, err = imagic("evaluate", *flags)
    assert code == 0, err
    assert "| sdedit, strength = 0.6 | 4 |" in out
    assert "| imagic, eta = 1 | 4 |" in out
    assert "* data: 1 x mask empty: 200000000003" in out
    assert "psnr_background{region=background,peak=1,cap=100dB} not defined: 900000000002" in out
    assert "| imagic, eta = 1: change style | 1 |" in out
    name = "annotation_images/9_change_style_80/900000000002.png"
    assert (tmp_path / "p" / "imagic" / "eta1-seed0" / name).is_file()


class Fake:
    """An editor that hands the source back, and fails where its name says so."""

    variants = (Variant("eta", 0.5, 0), Variant("eta", 1.0, 0))

    def __init__(self):
        self.asked = []

    def edit(self, item, source, work):
        self.asked.append(item.output)
        if "door" in item.id:
            raise NonFiniteLoss(3, 0.5)
        drawn = np.repeat(source.square, 2, 0)
        if "car" in item.id:
            drawn[1] = np.nan
        return drawn


@pytest.fixture
def fake(monkeypatch):
    editor = Fake()
    opener = lambda *_: contextlib.nullcontext(editor)  # noqa: E731
    monkeypatch.setattr(benchmark_editors, "open_editor", opener)
    return editor


def test_what_diverged_and_what_is_no_picture_is_named_not_averaged(imagic, preset, ted, fake):
    flags = [f"--config={preset}", *flags_of(ted), "--out=o", "--eta=0.5,1"]
    code, out, err = imagic("evaluate", *flags)
    assert code == 0, err
    assert "| imagic, eta = 0.5 | 6 of 7 |" in out
    assert "| imagic, eta = 1 | 5 of 7 |" in out
    assert "* imagic: 1 x fit diverged: door.jpeg-A_door_with_a_pet_enterance" in out
    assert "* imagic: 1 x result not finite: red_car.jpeg-A_convertable_car: eta1-seed0" in out
    assert imagic("evaluate", *flags)[1] == out
    assert len(fake.asked) == 7


def test_a_method_that_edits_nothing_says_why(imagic, preset, ted, fake, monkeypatch):
    def edit(*_):
        raise UserError("the words do not fit")

    monkeypatch.setattr(fake, "edit", edit)
    code, _, err = imagic("evaluate", f"--config={preset}", *flags_of(ted), "--out=o")
    assert code == 2
    assert "imagic edited no item (edit refused: the words do not fit)" in err


@pytest.mark.parametrize("kept", [0, 3])
@pytest.mark.parametrize("torn", ["", '{"item": "door.jp', "[1]\n"])
def test_a_run_goes_on_with_what_is_left(imagic, preset, ted, fake, tmp_path, kept, torn):
    flags = [f"--config={preset}", *flags_of(ted), "--out=o", "--eta=0.5,1"]
    _, out, _ = imagic("evaluate", *flags)
    path = tmp_path / "o" / "imagic" / "items.jsonl"
    whole = path.read_text()
    path.write_text("".join(whole.splitlines(keepends=True)[:kept]) + torn)
    assert imagic("evaluate", *flags)[1] == out
    assert fake.asked[7:] == list(data.RESULTS[kept:])
    picture = tmp_path / "o" / "imagic" / "eta0.5-seed0" / data.RESULTS[1]
    picture.write_bytes(picture.read_bytes()[:40])
    assert imagic("evaluate", *flags)[1] == out
    assert fake.asked[-1] == data.RESULTS[1]
    assert [r["item"] for r in lines(path)].count(lines(path)[-1]["item"]) == 1


def test_a_stop_is_heard_between_items(imagic, preset, ted, fake, monkeypatch, tmp_path):
    def edit(item, source, work):
        os.kill(os.getpid(), signal.SIGTERM)
        return np.repeat(source.square, 2, 0)

    monkeypatch.setattr(fake, "edit", edit)
    code, _, err = imagic("evaluate", f"--config={preset}", *flags_of(ted), "--out=o")
    assert code == 2
    assert "stopped after 1 items; the same command goes on" in err
    assert len(lines(tmp_path / "o" / "imagic" / "items.jsonl")) == 1


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ([], "--data is missing"),
        (["--data=nowhere"], "there is no folder nowhere"),
        (
            ["--data=tedbench", "--methods=magic"],
            "there is no method 'magic'; did you mean imagic?",
        ),
        (["--data=tedbench", "--methods=copy"], "copy is always there"),
        (["--data=tedbench", "--score_size=big"], "--score_size must be a number"),
        (["--data=tedbench", "--choose_by=beauty"], "no score 'beauty'"),
        (["--data=tedbench", "--count=0"], "--count must be a whole number"),
    ],
)
def test_flags_that_mean_nothing(imagic, ted, tmp_path, flags, named):
    code, _, err = imagic("evaluate", "--suite=tedbench", "--out=o", *flags)
    assert code == 2
    assert named in err
    assert not (tmp_path / "o").exists()


def test_the_whole_picture_is_never_squeezed(ted):
    """1045 x 1046 loses its last row; nothing else."""
    source = load_source(ted / "originals" / "red_car.jpeg", 1045)
    assert source.upright.shape == (1046, 1045, 3)
    np.testing.assert_allclose(
        source.square[0], source.upright[:1045] / np.float32(127.5) - 1, atol=1e-6
    )
