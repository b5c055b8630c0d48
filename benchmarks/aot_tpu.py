"""Does a model fit a TPU, and what does an edit cost there? Compiled ahead of time, without a TPU.

    pip install libtpu
    python benchmarks/aot_tpu.py            # hours; given again, it goes on where it stopped
    python benchmarks/aot_tpu.py --show

Each row is one `imagic bench --aot` in a process of its own, which writes every part to the row's
JSON file as soon as it is compiled. `--show` prints what is there as a table.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import app, flags

_OUT = flags.DEFINE_string("out", "benchmarks/results/aot", "Folder of the rows' JSON files.")
_ROWS = flags.DEFINE_list("rows", [], "Rows to compile; all where none is named.")
_SHOW = flags.DEFINE_bool("show", False, "Print the table of what is there; compile nothing.")

RUN = "from imagic_jax.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
LORA = "--config.tuning.base.rank=16"
FAST = ("--config.embedding.batch=8", "--config.tuning.base.batch=8")
FAST += ("--config.embedding.steps=50", "--config.tuning.base.steps=100", LORA)
#: What the paper says an edit takes, in seconds.
PAPER = {
    "sd": "420 (Stable Diffusion, one A100)",
    "if": "480 (Imagen, two TPU v4 chips)",
}
#: Name of a row -> flags of `imagic bench`. "quick": XLA tries less.
ROWS: dict[str, tuple[str, ...]] = {
    "sd15-v4": ("--config=sd15", "--aot=v4:2x2x1"),
    "sd15-v4-plain-quick": (
        "--config=sd15",
        "--aot=v4:2x2x1",
        "--config.attention=plain",
        "--effort=-1",
    ),
    "sd15-v4-quick": ("--config=sd15", "--aot=v4:2x2x1", "--effort=-1"),
    "sd15-lora-v4": ("--config=sd15", "--aot=v4:2x2x1", LORA),
    "sd15-fast-v4": ("--config=sd15", "--aot=v4:2x2x1", *FAST),
    "sd15-v5e": ("--config=sd15", "--aot=v5e:2x2"),
    "sd15-v6e": ("--config=sd15", "--aot=v6e:2x2"),
    "sd21-v4": ("--config=sd21", "--aot=v4:2x2x1"),
    "sdxl-lora-v4": ("--config=sdxl", "--aot=v4:2x2x1", LORA),
    "if-m-v4": ("--config=deepfloyd_if_m", "--aot=v4:2x2x1"),
    "if-l-v4": ("--config=deepfloyd_if_l", "--aot=v4:2x2x1"),
    "if-xl-v4-fsdp4": ("--config=deepfloyd_if_xl", "--aot=v4:2x2x1", "--fsdp=4"),
}


def compile_row(name: str, folder: Path) -> int:
    """Compiles one row in a child process at low priority; its exit code."""
    file = folder / f"{name}.json"
    command = ["nice", "-n", "15", sys.executable, "-c", RUN, "bench", *ROWS[name]]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    return subprocess.run([*command, f"--json={file}"], env=environment).returncode


def table(folder: Path) -> str:
    """What is there, in Markdown: a line for each row, then one for each of its parts."""
    lines = [
        "| row | fits | most GiB (of) | fit s | render s | whole edit s | by floors s | paper s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    parts = ["| row | part | times | GiB | TFLOP | GB accessed | roofline ms | compile CPU s |"]
    parts.append("|---|---|---|---|---|---|---|---|")
    for name in ROWS:
        if not (folder / f"{name}.json").exists():
            continue
        result = json.loads((folder / f"{name}.json").read_text())
        lines.append(_line(name, result))
        parts += [_part(name, r) for r in result["rows"]]
    note = "Times are estimates: the larger of FLOPs at the peak and bytes at the bandwidth."
    return "\n".join([*lines, "", note, "", *parts])


def _line(name: str, result: dict[str, Any]) -> str:
    rows, edit = result["rows"], result["edit"]
    most = max((r["memory_gib"] or 0.0 for r in rows), default=0.0)
    fits = "yes" if all(r["fits"] for r in rows) else "no"
    keys = ("fit_s", "render_s", "roofline_s", "floor_s")
    times = [f"{edit[k]:.0f}" if edit else "-" for k in keys]
    chip = result["chip"]
    size = f"{most:.1f} ({chip['memory'] / 2**30:.0f})"
    return f"| {' | '.join([name, fits, size, *times, PAPER[name[:2]]])} |"


def _part(name: str, r: dict[str, Any]) -> str:
    def shown(value: float | None, scale: float) -> str:
        return "-" if value is None else f"{value / scale:.3g}"

    cells = [
        name,
        r["name"],
        str(r["times"]),
        shown(r["memory_gib"], 1),
        shown(r["flops"], 1e12),
        shown(r["accessed"], 1e9),
        shown(r["roofline_s"], 1e-3),
        shown(r["compile_cpu_s"], 1),
    ]
    return f"| {' | '.join(cells)} |"


def main(argv: list[str]) -> None:
    """Compiles the rows one after the other, and prints the table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    unknown = [name for name in _ROWS.value if name not in ROWS]
    if unknown:
        raise app.UsageError(f"--rows: unknown {unknown}; known: {', '.join(ROWS)}")
    folder = Path(_OUT.value)
    failed = []
    for name in [] if _SHOW.value else _ROWS.value or list(ROWS):
        print(f"{name}: imagic bench {' '.join(ROWS[name])}", file=sys.stderr, flush=True)
        if compile_row(name, folder):
            failed.append(name)
    print(table(folder))
    if failed:
        raise SystemExit(f"rows that failed: {', '.join(failed)}")


if __name__ == "__main__":
    app.run(main)
