"""`imagic edit --inputs` in two real processes: shared work, one summary, one process's bits."""

import json
import os
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.jobs import fits

RUN = "from imagic_jax.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"


def start(devices, *arguments):
    told = os.environ.get("XLA_FLAGS", "")
    simulated = f"{told} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "edit", *map(str, arguments)],
        # as many threads in all: the order of XLA's sums on a CPU depends on them
        env={**os.environ, "XLA_FLAGS": simulated, "NPROC": "4"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_with_two_devices_make_the_bits_of_one_with_four(
    preset, tiny_model, picture, tmp_path
):
    texts = ("a red dog", "a blue dog", "a pink dog", "a white dog")
    rows = [{"image": str(picture), "text": t, "out": t.split()[1]} for t in texts]
    path = tmp_path / "jobs.jsonl"
    path.write_text("\n".join(json.dumps(r) for r in [*rows, {"image": "gone.png", "text": "x"}]))
    flags = [f"--config={preset}", f"--model={tiny_model / 'base'}", f"--inputs={path}"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    together = [f"--out={tmp_path / 'two'}", "--mesh=image:2", "--num_processes=2"]
    together.append(f"--coordinator={meeting}")
    jobs = [start(2, *flags, *together, f"--process_id={i}") for i in range(2)]
    jobs.append(start(4, *flags, f"--out={tmp_path / 'one'}", "--mesh=image:4"))
    told = [job.communicate(timeout=1800) for job in jobs]
    assert [job.returncode for job in jobs] == [1, 0, 1], told  # the broken line is the first's
    assert not any("Traceback" in errors for _, errors in told), told
    summaries = [
        json.loads((tmp_path / n / "summary.json").read_text())["counts"] for n in ("one", "two")
    ]
    assert summaries[0] == summaries[1] == {"done": 4, "broken line": 1}
    for row in rows:
        one, two = (tmp_path / n / row["out"] for n in ("one", "two"))
        for a, b in zip(
            *(jax.tree.leaves(fits.load_fit(f / "fit")) for f in (one, two)), strict=True
        ):
            np.testing.assert_array_equal(a, b)
        for drawn in sorted(one.glob("edited_*.png")):
            np.testing.assert_array_equal(
                np.asarray(pil.open(drawn)), np.asarray(pil.open(two / drawn.name))
            )
