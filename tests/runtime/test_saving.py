"""When loops are saved, what a full disk says, and how a damaged checkpoint is passed over."""

import errno
import subprocess
import sys

import jax
import numpy as np
import pytest

from imagic_jax.errors import UserError
from imagic_jax.runtime import checkpoint
from imagic_jax.runtime.checkpoint import Checkpoints, NoRoom, SaveTimer, parse_save_every


@pytest.mark.parametrize(
    ("text", "expected"),
    [("", (None, None)), ("200", (200, None)), ("90s", (None, 90.0)), ("1.5m", (None, 90.0))],
)
def test_intervals_are_read(text, expected):
    assert parse_save_every(text) == expected


@pytest.mark.parametrize("text", ["soon", "0", "-5", "1.5", "s", "0s", "nan", "nans", "inf", "5h"])
def test_what_is_no_interval_is_refused(text):
    with pytest.raises(UserError, match="is not understood"):
        parse_save_every(text)


def test_timers(monkeypatch):
    now = 100.0
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now)
    steps, seconds, own = SaveTimer(steps=10), SaveTimer(seconds=60.0), SaveTimer()
    for timer in (steps, seconds, own):
        timer.saved(5, seconds=4.0)  # a twentieth of 80 s
    assert not steps.due(14)
    assert steps.due(15)
    now += 60.0
    assert seconds.due(6)
    assert not own.due(6)
    now += 21.0
    assert own.due(6)


def test_a_damaged_checkpoint_is_passed_over(tmp_path):
    like = {"a": jax.ShapeDtypeStruct((1000,), np.float32)}
    with Checkpoints(tmp_path) as saved:
        for step in (1, 2):
            saved.save(step, {"a": np.full(1000, step, np.float32)})
    for path in (tmp_path / "2").rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with Checkpoints(tmp_path) as saved:
        step, state = saved.restore_newest(like)
        assert step == 1
        assert type(state["a"]) is np.ndarray
        np.testing.assert_array_equal(state["a"], 1.0)
        assert saved.latest_step() == 1


FULL = """
import resource, signal, sys, numpy as np
from imagic_jax.runtime.checkpoint import Checkpoints, NoRoom
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
state = {"a": np.random.default_rng(0).random(300_000)}
with Checkpoints(sys.argv[1]) as saved:
    saved.save(1, state)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    with Checkpoints(sys.argv[1]) as saved:
        saved.save(2, state)
        saved.save(3, state)
except NoRoom as error:
    sys.exit(str(error))
"""


def test_a_file_that_cannot_be_written_is_told_and_leaves_what_was_there(tmp_path):
    """A limit on files stands for a full disk."""
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True)
    assert done.returncode == 1
    assert "no checkpoint can be written" in done.stderr.decode()
    with Checkpoints(tmp_path) as saved:
        assert saved.latest_step() == 1


def test_a_full_disk_is_called_so(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as saved:

        def fails(*args, **kwargs):
            raise ValueError("RESOURCE") from OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(saved._manager, "save", fails)
        with pytest.raises(NoRoom, match=r"is full: make room"):
            saved.save(1, {"a": np.zeros(3)})
