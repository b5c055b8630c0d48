"""A list of Flatland pictures on simulated devices: one compile, single runs' bits, kill-proof.

    python benchmarks/list_bits.py --out=/tmp/list_bits --json=list_bits.json

Writes validation pictures of the Flatland benchmark and a list of them, edits the list on a mesh
`image:4` in a process that is killed (SIGKILL) while its second group is being worked on, gives the
same command again, and edits every picture by itself on one device. Says how many programs were
compiled, whether anything that was finished was touched again, and whether all arrays of the fits
and all pictures agree to the bit, at equal numbers of threads. Schedules are short, because bits
do not depend on them.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags, logging
from PIL import Image as pil
from sd15 import machine

from imagic_jax.evaluation.items import items
from imagic_jax.jobs import fits, pictures

_OUT = flags.DEFINE_string("out", "list_bits", "Where to write.")
_COUNT = flags.DEFINE_integer("count", 12, "How many pictures.")
_DEVICES = flags.DEFINE_integer("devices", 4, "How many simulated devices.")
_MODEL = flags.DEFINE_string("model", "", "Another model than the preset's.")
_STEPS = flags.DEFINE_integer("steps", 6, "Steps of every loop.")
_JSON = flags.DEFINE_string("json", None, "Also write the report to this file.")

RUN = """
import json, os, sys
from imagic_jax.cli.main import main
code = main(sys.argv[1:])
from imagic_jax.backbones import generate_lanes
from imagic_jax.runtime import lanes
loops, draws = lanes._run_lanes._cache_size(), generate_lanes._draw_lanes._cache_size()
print(json.dumps({"loops": loops, "drawings": draws}), flush=True)
os._exit(code)
"""


def write_list(folder: Path, count: int) -> Path:
    """The pictures and their list."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "jobs.jsonl"
    if path.is_file() and len(path.read_text().splitlines()) == count:
        return path
    rows = []
    for item in items("validation", count):
        source, _ = item.pictures(128)
        pictures.to_pil(source * 2.0 - 1.0).save(folder / f"{item.name}.png")
        rows.append({"image": f"{item.name}.png", "text": item.text, "out": item.name})
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def command(out: Path, path: Path, devices: int) -> subprocess.Popen:
    """`imagic edit --inputs` in a process of its own."""
    steps = _STEPS.value
    arguments = ["edit", f"--inputs={path}", f"--out={out}", f"--mesh=image:{devices}"]
    arguments += [f"--config.embedding.steps={steps}", "--eta=0,1", "--quiet"]
    arguments += [f"--config.tuning.base.steps={steps}", "--save_every=2"]
    if _MODEL.value:
        arguments.append(f"--model={_MODEL.value}")
    else:
        arguments.append(f"--config.tuning.sr1.steps={steps}")
    told = os.environ.get("XLA_FLAGS", "")
    simulated = f"{told} --xla_force_host_platform_device_count={devices}"
    # NPROC: as many threads in both, on which the order of XLA's sums on a CPU depends
    settings = {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": simulated, "NPROC": str(_DEVICES.value)}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, *arguments],
        env={**os.environ, **settings},
        stdout=subprocess.PIPE,
        text=True,
    )


def finished(out: Path) -> dict[str, int]:
    """When every finished edit was finished."""
    return {p.parent.name: p.stat().st_mtime_ns for p in out.glob("*/result.json")}


def kill_in_the_middle(out: Path, path: Path, devices: int) -> dict[str, int]:
    """Starts the list and kills it after its first group; what was finished by then."""
    process = command(out, path, devices)
    while len(finished(out)) < devices:
        if process.poll() is not None:
            raise SystemExit(f"the list ended by itself with {process.returncode}")
        time.sleep(1.0)
    time.sleep(random.Random(0).uniform(0.5, 2.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    return finished(out)


def whole(out: Path, path: Path, devices: int) -> dict[str, int]:
    """Runs the list to its end; the programs that were compiled."""
    process = command(out, path, devices)
    told, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"imagic edit failed with {process.returncode}: {told}")
    return json.loads(told.strip().splitlines()[-1])


def same(a: Path, b: Path) -> bool:
    """Whether two edits hold the same bits."""
    pairs = [*zip(*(jax.tree.leaves(fits.load_fit(f / "fit")) for f in (a, b)), strict=True)]
    for path in sorted(a.glob("edited_*.png")):
        pairs.append(tuple(np.asarray(pil.open(f / path.name)) for f in (a, b)))
    return all(np.array_equal(x, y) for x, y in pairs)


def main(argv: list[str]) -> None:
    logging.set_verbosity(logging.ERROR)  # Orbax tells of every array that it reads
    out, model = Path(_OUT.value), _MODEL.value or "flatland-imagen"
    path = write_list(out / "inputs", _COUNT.value)
    began = time.perf_counter()
    before = kill_in_the_middle(out / "lanes", path, _DEVICES.value)
    programs = whole(out / "lanes", path, _DEVICES.value)
    after = finished(out / "lanes")
    alone = whole(out / "alone", path, 1)
    names = sorted(after)
    report = {
        "pictures": _COUNT.value,
        "finished": len(after),
        "lanes": _DEVICES.value,
        "finished_when_killed": len(before),
        "of_them_touched_again": sum(after[n] != t for n, t in before.items()),
        "programs_of_the_lanes": programs,
        "programs_of_single_runs": alone,
        "equal_to_the_bit": sum(same(out / "lanes" / n, out / "alone" / n) for n in names),
        "seconds": round(time.perf_counter() - began),
    }
    text = json.dumps({"machine": machine(), "model": Path(model).name, **report}, indent=2)
    print(text)
    if _JSON.value:
        Path(_JSON.value).write_text(text + "\n")


if __name__ == "__main__":
    app.run(main)
