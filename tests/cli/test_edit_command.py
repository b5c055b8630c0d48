"""`imagic edit` and `imagic render` from files to folders, on the tiny cascade."""

import json
import os
import signal

import numpy as np
import pytest
import standalone
from PIL import Image as pil

from imagic_jax.runtime.progress import StageProgress

TEXT = "a sitting dog"


@pytest.fixture
def flags(preset, picture):
    return (f"--config={preset}", f"--image={picture}", f"--text={TEXT}")


def pixels(path):
    return np.asarray(pil.open(path))


def test_an_edit_leaves_everything_that_it_promises(imagic, flags, tmp_path):
    code, out, err = imagic("edit", *flags, "--out=o", "--seeds=0,1", "--paste_back")
    assert code == 0, err
    folder = tmp_path / "o"
    names = {p.name for p in folder.iterdir()}
    edited = {f"edited_eta{e}_seed{s}.png" for e in ("0", "0.5", "1") for s in (0, 1)}
    pasted = {n.replace("edited", "pasted") for n in edited}
    assert names == edited | pasted | {
        "fit",
        "index.html",
        "input.png",
        "job.json",
        "result.json",
        "strip.png",
    }
    result = json.loads((folder / "result.json").read_text())
    assert result["text"] == TEXT
    assert result["preset"] == "tiny_preset"
    assert result["etas"] == [0.0, 0.5, 1.0]
    assert result["seeds"] == [0, 1]
    assert result["box"] == [10, 0, 80]
    assert {"imagic-jax", "jax", "flax", "optax"} <= set(result["versions"])
    assert "cpu" in result["device"].lower()
    assert result["embedding_distance"] > 0
    assert np.isfinite(result["reconstruction_psnr"])
    timings = result["timings"]
    assert {"compile_s", "embed_s", "finetune_s", "render_s", "total_s"} <= set(timings)
    assert [t["name"] for t in timings["stages"]] == [
        "embedding",
        "tuning base",
        "tuning sr1",
        "rendering",
    ]
    assert {row["file"] for row in result["outputs"]} == edited
    assert any("poorly" in w for w in result["warnings"])  # random weights cannot rebuild it
    for name in edited:
        assert pixels(folder / name).shape == (64, 64, 3)
    for name in pasted:
        assert pixels(folder / name).shape == (80, 100, 3)
    assert "look at" in out
    assert "tuning base" in err


def test_the_page_opens_from_disk_with_nothing_else(imagic, flags, tmp_path):
    assert imagic("edit", *flags, "--out=o", "--quiet")[0] == 0
    page = (tmp_path / "o" / "index.html").read_text()
    sources = standalone.check(tmp_path / "o" / "index.html")
    assert len(sources) >= 4
    assert all(s.startswith("data:image/png;base64,") for s in sources)
    assert TEXT in page


def test_texts_are_escaped_on_the_page(imagic, preset, picture, tmp_path):
    text = 'a dog <script>alert("x")</script>'
    code, _, err = imagic(
        "edit", f"--config={preset}", f"--image={picture}", f"--text={text}", "--out=o"
    )
    assert code == 0
    assert "<script>alert" not in (tmp_path / "o" / "index.html").read_text()
    assert "never seen the words" in err


def test_the_same_command_draws_again_without_fitting(imagic, flags, tmp_path):
    assert imagic("edit", *flags, "--out=o", "--quiet")[0] == 0
    fit = tmp_path / "o" / "fit" / "fit.json"
    before = fit.stat().st_mtime_ns
    code, _, err = imagic("edit", *flags, "--out=o", "--eta=0.25")
    assert code == 0
    assert "fitted already" in err
    assert fit.stat().st_mtime_ns == before
    assert (tmp_path / "o" / "edited_eta0.25_seed0.png").is_file()


def test_another_job_in_the_same_folder_is_refused_unless_overwritten(imagic, flags, tmp_path):
    assert imagic("edit", *flags, "--out=o", "--quiet")[0] == 0
    kept = pixels(tmp_path / "o" / "edited_eta1_seed0.png")
    code, _, err = imagic("edit", *flags[:2], "--text=a red car", "--out=o")
    assert code == 2
    assert "another job" in err
    assert "text" in err
    np.testing.assert_array_equal(pixels(tmp_path / "o" / "edited_eta1_seed0.png"), kept)
    assert imagic("edit", *flags[:2], "--text=a red car", "--out=o", "--overwrite")[0] == 0


def test_render_draws_the_same_bits_and_needs_no_picture(imagic, flags, tmp_path):
    assert imagic("edit", *flags, "--out=o", "--quiet")[0] == 0
    code, _, err = imagic("render", "--fit=o/fit", "--eta=0.5,0.9", "--seeds=0,3", "--out=r")
    assert code == 0, err
    np.testing.assert_array_equal(
        pixels(tmp_path / "r" / "edited_eta0.5_seed0.png"),
        pixels(tmp_path / "o" / "edited_eta0.5_seed0.png"),
    )
    result = json.loads((tmp_path / "r" / "result.json").read_text())
    assert result["text"] == TEXT
    assert len(result["outputs"]) == 4


@pytest.mark.parametrize("at", ["embedding", "tuning base", "tuning sr1"])
def test_an_interrupted_edit_goes_on_to_the_same_bits(imagic, flags, tmp_path, monkeypatch, at):
    assert imagic("edit", *flags, "--out=whole", "--quiet", "--keep_checkpoints")[0] == 0
    real = StageProgress.update

    def stop_in_the_middle(self, done, *arguments):
        real(self, done, *arguments)
        if self._name == at and done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "update", stop_in_the_middle)
        code, _, err = imagic("edit", *flags, "--out=o")
    assert code == 2
    assert "stopped at step" in err
    assert "the work so far is in o" in err
    assert not (tmp_path / "o" / "result.json").exists()
    code, _, err = imagic("edit", *flags, "--out=o")
    assert code == 0
    assert f"{at}: " in err
    assert "done before" in err
    assert not (tmp_path / "o" / "checkpoints").exists()
    assert (tmp_path / "whole" / "checkpoints").exists()
    for name in ("edited_eta0_seed0.png", "edited_eta1_seed0.png"):
        np.testing.assert_array_equal(
            pixels(tmp_path / "o" / name), pixels(tmp_path / "whole" / name)
        )


def test_a_loss_that_is_no_number_stops_with_advice(imagic, flags, tmp_path):
    code, _, err = imagic("edit", *flags, "--out=o", "--config.tuning.base.learning_rate=1e30")
    assert code == 2
    last = err.strip().splitlines()[-1]
    assert "at step" in last
    assert "lower the learning rate" in last
    assert not (tmp_path / "o" / "fit").exists()


@pytest.mark.parametrize(
    ("pattern", "words"), [("(", "no regular expression"), ("nowhere", "matches no parameter")]
)
def test_patterns_that_choose_nothing_are_refused(imagic, flags, tmp_path, pattern, words):
    code, _, err = imagic("edit", *flags, "--out=o", f"--config.tuning.base.train={pattern}")
    assert code == 2
    assert words in err
    assert "config.tuning.base.train" in err
    assert not (tmp_path / "o").exists()


def test_noise_draws_per_step_are_a_flag_of_all_loops(imagic, flags, tmp_path):
    code, _, err = imagic("edit", *flags, "--out=o", "--noise_batch=0")
    assert code == 2
    assert "--noise_batch" in err
    code, _, err = imagic("edit", *flags, "--out=o", "--noise_batch=2", "--method=sdedit")
    assert code == 2
    assert "sdedit" in err
    code, _, err = imagic("edit", *flags, "--out=o", "--noise_batch=nan")
    assert code == 2
    assert not (tmp_path / "o").exists()
    assert imagic("edit", *flags, "--out=o", "--quiet", "--noise_batch=3")[0] == 0
    job = json.loads((tmp_path / "o" / "job.json").read_text())
    loops = [job["embedding"], *job["tuning"].values()]
    assert [loop["batch"] for loop in loops] == [3] * len(loops)


def test_fits_that_are_none_are_refused(imagic, flags, tmp_path):
    assert imagic("edit", *flags, "--out=o", "--quiet")[0] == 0
    for folder, words in (("nowhere", "there is no folder"), ("o", "did you mean o/fit")):
        code, _, err = imagic("render", f"--fit={folder}", "--out=r")
        assert code == 2
        assert words in err
    arrays = tmp_path / "o" / "fit" / "arrays"
    largest = max((p for p in arrays.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    code, _, err = imagic("render", "--fit=o/fit", "--out=r")
    assert code == 2
    assert "broken or cut off" in err
    about = tmp_path / "o" / "fit" / "fit.json"
    about.write_text(about.read_text()[:40])
    code, _, err = imagic("render", "--fit=o/fit", "--out=r")
    assert code == 2
    assert "cut off" in err
    assert not (tmp_path / "r").exists()


def test_sampling_from_text_alone(imagic, preset, tmp_path):
    code, _, err = imagic(
        "sample", f"--config={preset}", "--text=a red dog", "--text=a car", "--seeds=0,1", "--out=s"
    )
    assert code == 0, err
    assert len(list((tmp_path / "s").glob("*.png"))) == 5  # four pictures and their sheet
