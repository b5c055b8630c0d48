"""Real processes on this machine: two with two devices make the bits of one with four."""

import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from imagic_jax.errors import UserError
from imagic_jax.runtime import hosts

JOB = Path(__file__).parent / "host_job.py"


def address() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


def start(coordinator, processes, process, devices, out):
    arguments = [coordinator, str(processes), str(process), str(devices), str(out)]
    return subprocess.Popen([sys.executable, str(JOB), *arguments], stderr=subprocess.PIPE)


def test_two_processes_make_the_bits_of_one(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    meeting = address()
    jobs = [start(meeting, 2, i, 2, two) for i in range(2)] + [start(address(), 1, 0, 4, one)]
    for job in jobs:
        _, err = job.communicate(timeout=300)
        assert job.returncode == 0, err.decode()
    for i in range(4):
        with np.load(one / f"{i}.npz") as a, np.load(two / f"{i}.npz") as b:
            assert set(a) == set(b) == {"w", "count"}
            for name in a:
                np.testing.assert_array_equal(a[name], b[name])


def test_flags_that_do_not_belong_together_are_refused():
    with pytest.raises(UserError, match="given together"):
        hosts.connect("localhost:1", None, None)
    with pytest.raises(UserError, match=r"must lie in 0\.\.1"):
        hosts.connect("localhost:1", 2, 2)
    with pytest.raises(UserError, match="must be HOST:PORT"):
        hosts.connect("localhost", 2, 0)


def test_one_process_needs_nobody():
    hosts.connect(None, None, None)
    assert hosts.my_share([1, 2, 3]) == [1, 2, 3]
    assert hosts.is_first()


def test_importing_the_package_starts_no_device():
    """Many processes must meet before JAX is used, so no module may compute when imported."""
    code = """
import contextlib, importlib, pkgutil, imagic_jax
from jax._src import xla_bridge
for module in pkgutil.walk_packages(imagic_jax.__path__, "imagic_jax."):
    with contextlib.suppress(ImportError):  # of what is optional
        importlib.import_module(module.name)
    assert not xla_bridge.backends_are_initialized(), module.name
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("process", [0, 1])
def test_a_process_whose_others_never_come_says_so(process):
    code = (
        "import sys; from imagic_jax.cli.main import main; sys.exit(main(['edit',"
        f" '--coordinator={address()}', '--num_processes=2', '--process_id={process}',"
        " '--connect_timeout=3', '--out=nowhere/to/be/made']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=120)
    assert done.returncode == 2
    last = done.stderr.decode().strip().splitlines()[-1]
    assert "after 3 s the 2 processes of this job have not all met" in last
