"""SIGKILL at any moment loses at most the last seconds, and never leaves a broken folder."""

import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image as pil

RUN = "from imagic_jax.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"


@pytest.mark.slow
def test_killed_edits_go_on_to_the_same_pictures(preset, picture, tmp_path):
    flags = [f"--config={preset}", f"--image={picture}", "--text=a sitting dog", "--quiet"]
    flags += ["--config.embedding.steps=60", "--config.tuning.base.steps=60"]

    def start(folder):
        return subprocess.Popen(
            [sys.executable, "-c", RUN, "edit", f"--out={folder}", *flags], env=os.environ
        )

    began = time.monotonic()
    assert start(tmp_path / "whole").wait(600) == 0  # fills the compile cache, too
    began = time.monotonic()
    assert start(tmp_path / "warm").wait(600) == 0
    length = time.monotonic() - began
    rng = random.Random(0)
    for _ in range(6):
        process = start(tmp_path / "killed")
        try:
            process.wait(rng.uniform(0.3, 1.0) * length)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert start(tmp_path / "killed").wait(600) == 0
    for name in ("edited_eta0_seed0.png", "edited_eta1_seed0.png"):
        expected = np.asarray(pil.open(tmp_path / "whole" / name))
        np.testing.assert_array_equal(np.asarray(pil.open(tmp_path / "killed" / name)), expected)
