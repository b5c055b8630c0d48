"""How long `imagic edit` takes, and how much memory: cold, warm, and a second edit in one process.

    python benchmarks/edit_speed.py --paper --json=benchmarks/results/edit_speed-cpu.json

Cold: a fresh process with an empty compile cache. Warm: a fresh process with the cache of the one
before. Second edit: another text and other amounts in a process that has edited already; it must
compile nothing. Run it on an otherwise idle machine.
"""

import json
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")
_PAPER = flags.DEFINE_bool("paper", False, "Time the paper's schedule too.")

HERE = Path(__file__).parent
RUN = "from imagic_jax.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"


def edit(folder: Path, cache: Path, *flags: str) -> dict:
    """One `imagic edit` in a process of its own: wall seconds, peak memory, its own timings."""
    arguments = [sys.executable, "-c", RUN, "edit", "--quiet", f"--out={folder}", *flags]
    environment = {**os.environ, "IMAGIC_CACHE": str(cache)}
    began = time.perf_counter()
    child = os.posix_spawn(arguments[0], arguments, environment)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - began
    if status:
        raise SystemExit(f"imagic edit failed with status {status}")
    result = json.loads((folder / "result.json").read_text())
    return {
        "wall_s": round(seconds, 1),
        "peak_memory_gib": round(usage.ru_maxrss / 2**20, 2),  # Linux counts KiB
        "cpu_s": round(usage.ru_utime + usage.ru_stime, 1),
        "timings": result["timings"],
        "reconstruction_psnr": round(result["reconstruction_psnr"], 2),
    }


def second_edit(folder: Path) -> dict:
    """Programs compiled and seconds spent by the second of two edits in this process."""
    from imagic_jax.cli.main import main
    from imagic_jax.runtime.compilation import counted

    first = ["edit", "--quiet", f"--out={folder / 'first'}"]
    again = ["edit", "--quiet", f"--out={folder / 'second'}", "--eta=0.2,0.5,0.9"]
    again += ["--image=" + str(HERE.parent / "examples" / "bird.png"), "--text=a blue bird"]
    if main(first):
        raise SystemExit("the first edit failed")
    began = time.perf_counter()
    with counted(all_threads=True) as compiled:
        if main(again):
            raise SystemExit("the second edit failed")
    seconds = time.perf_counter() - began
    return {"wall_s": round(seconds, 1), "programs_compiled": compiled.programs}


def main(argv: list[str]) -> None:
    """Prints the rows."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    load = os.getloadavg()[2]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        cache = work / "cache"
        rows = {"cold": edit(work / "cold", cache), "warm": edit(work / "warm", cache)}
        if _PAPER.value:
            rows["paper, warm"] = edit(work / "paper", cache, "--config=flatland_imagen_paper")
        os.environ["IMAGIC_CACHE"] = str(cache)
        rows["second edit in one process"] = second_edit(work)
    for name, row in rows.items():
        facts = ", ".join(f"{k} {v}" for k, v in row.items() if not isinstance(v, dict))
        print(f"{name}: {facts}")
    if _JSON.value:
        import jax

        machine = {
            "cores": os.cpu_count(),
            "device": jax.devices()[0].device_kind,
            "python": platform.python_version(),
            "jax": jax.__version__,
            "load_before": round(load, 2),
        }
        Path(_JSON.value).write_text(
            json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n"
        )


if __name__ == "__main__":
    app.run(main)
