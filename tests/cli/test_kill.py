"""SIGKILL at random moments, as often as you like: resumed until done, the bits are the same.

Every attempt kills itself after a random share of the time that an undisturbed run takes, so that
the moments fall on loading, compiling, every loop, saving, writing the fit and drawing alike.
"""

import os
import random
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.jobs import fits

RUN = """
import os, signal, sys, threading, time
from imagic_jax.cli.main import main
import imagic_jax.jobs.edit
delay, began = float(sys.argv[1]), time.monotonic()
if delay:
    timer = threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL))
    timer.daemon = True
    timer.start()
code = main(sys.argv[2:])
print(time.monotonic() - began, flush=True)
os._exit(code)
"""


def run(folder, flags, delay=0.0):
    """One attempt, killed after `delay` seconds of its work: (exit code, seconds of work)."""
    arguments = [sys.executable, "-c", RUN, str(delay), "edit", f"--out={folder}", *flags]
    done = subprocess.run(arguments, timeout=900, capture_output=True, text=True)
    return done.returncode, 0.0 if done.returncode else float(done.stdout.split()[-1])


def kill_when(happened, folder, flags):
    """One attempt, killed when `happened()`."""
    arguments = [sys.executable, "-c", RUN, "0", "edit", f"--out={folder}", *flags]
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job:
        while not happened():
            assert job.poll() is None
            time.sleep(0.05)
        job.kill()


def same(a, b):
    """Whether two finished folders hold the same bits."""
    for x, y in zip(*(jax.tree.leaves(fits.load_fit(f / "fit")) for f in (a, b)), strict=True):
        np.testing.assert_array_equal(x, y)
    names = sorted(p.name for p in a.glob("edited_*.png"))
    assert names == sorted(p.name for p in b.glob("edited_*.png"))
    for name in names:
        np.testing.assert_array_equal(*(np.asarray(pil.open(f / name)) for f in (a, b)))


def killed_until(kills, tmp_path, flags, seed):
    """Kills attempts until there were so many kills; finished folders and what happened."""
    rng = random.Random(seed)
    assert run(tmp_path / "whole", flags)[0] == 0  # fills the compile cache, too
    code, length = run(tmp_path / "warm", flags)
    assert code == 0
    finished, count, attempt = [tmp_path / "warm"], 0, 0
    while count < kills:
        folder = tmp_path / f"killed{attempt}"
        code, _ = run(folder, flags, rng.uniform(0.0, length))
        assert code in (0, -9)
        count += code == -9
        if code == 0:
            finished.append(folder)
            attempt += 1
    folder = tmp_path / f"killed{attempt}"
    assert run(folder, flags)[0] == 0
    return [*finished, folder]


@pytest.fixture
def flags(preset, tiny_model, picture):
    return [
        f"--config={preset}",
        f"--model={tiny_model / 'base'}",
        f"--image={picture}",
        "--text=a sitting dog",
        "--quiet",
        "--save_every=1",
        "--config.embedding.steps=20",
        "--config.tuning.base.steps=20",
    ]


def test_an_edit_killed_a_few_times_ends_with_the_same_bits(flags, tmp_path):
    for folder in killed_until(2, tmp_path, flags, seed=1):
        same(folder, tmp_path / "whole")


@pytest.mark.slow
def test_edits_killed_at_twenty_random_moments_end_with_the_same_bits(flags, tmp_path):
    for folder in killed_until(20, tmp_path, flags, seed=0):
        same(folder, tmp_path / "whole")


@pytest.mark.slow
def test_a_killed_list_redoes_nothing_that_was_finished(
    preset, tiny_model, picture, tmp_path, monkeypatch
):
    """Four pictures on two devices; the finished folders are not touched again."""
    rows = [
        f'{{"image": "{picture}", "text": "a {c} dog"}}' for c in ("red", "blue", "pink", "big")
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(rows))
    flags = [f"--config={preset}", f"--model={tiny_model / 'base'}", "--mesh=image:2", "--quiet"]
    flags += [f"--inputs={tmp_path / 'jobs.jsonl'}", "--save_every=1"]
    flags += ["--config.embedding.steps=20", "--config.tuning.base.steps=20"]
    devices = " --xla_force_host_platform_device_count=2"
    monkeypatch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "") + devices)
    assert run(tmp_path / "whole", flags)[0] == 0
    folder = tmp_path / "killed"
    kill_when(lambda: len(_results(folder)) >= 2, folder, flags)  # the first two pictures
    first = _times(folder)
    assert run(folder, flags, 1.0)[0] == -9  # while it finds out where it was
    assert _times(folder) == first
    assert run(folder, flags)[0] == 0
    assert len(first) < 4 == len(_times(folder))
    assert first.items() <= _times(folder).items()
    for path in _results(tmp_path / "whole"):
        same(path.parent, tmp_path / "killed" / path.parent.name)


def _times(folder):
    """When every finished picture was finished."""
    return {p.parent.name: p.stat().st_mtime_ns for p in _results(folder)}


def _results(folder):
    return sorted(folder.glob("*/result.json"))
