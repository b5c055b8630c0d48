"""Does a model fit a TPU, and what does an edit cost there? Compiled ahead of time, without a TPU.

    pip install libtpu
    python benchmarks/aot_tpu.py            # hours; given again, it goes on where it stopped
    python benchmarks/aot_tpu.py --show

Each row is one `imagic bench --aot` in a process of its own, which writes every part to the row's
JSON file as soon as it is compiled. What is there is printed and written to table.md beside it.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from absl import app, flags

from imagic_jax.jobs import aot

_OUT = flags.DEFINE_string("out", "benchmarks/results/aot", "Folder of the rows' JSON files.")
_ROWS = flags.DEFINE_list("rows", [], "Rows to compile; all where none is named.")
_SHOW = flags.DEFINE_bool("show", False, "Print the table of what is there; compile nothing.")

RUN = "from imagic_jax.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
V4, V5E, V6E = "--aot=v4:2x2x1", "--aot=v5e:2x2", "--aot=v6e:2x2"
QUICK = "--effort=-1"  # XLA tries less
LORA = "--config.tuning.base.rank=16"
SD15, SDXL = "--config=sd15", "--config=sdxl"
#: What the paper says an edit takes, in seconds.
PAPER = {
    "sd": "420 (Stable Diffusion, one A100)",
    "if": "480 (Imagen, two TPU v4 chips)",
}


class Row(NamedTuple):
    """What is compiled for one row.

    Attributes:
        flags: of `imagic bench`.
        stages: the parts to compile; all where none is named.
        like: the row whose programs the other parts share.
        note: what the table says of it.
    """

    flags: tuple[str, ...]
    stages: str = ""
    like: str = ""
    note: str = ""


IF_OWN = "embed,tune,sample base,sample sr1"  # the text encoder and the last stage are the same
ROWS: dict[str, Row] = {
    "sd15-v4": Row((SD15, V4, QUICK)),
    "sd15-lora-v4": Row((SD15, V4, QUICK, LORA), "tune", "sd15-v4"),
    "sd15-fast-v4": Row(("--config=sd15_fast", V4, QUICK), "embed,tune", "sd15-v4"),
    "sd15-v5e": Row((SD15, V5E, QUICK)),
    "sd15-lora-v5e": Row((SD15, V5E, QUICK, LORA), "tune", "sd15-v5e"),
    "sd15-v6e": Row((SD15, V6E, QUICK)),
    "sd21-v4": Row(("--config=sd21", V4, QUICK)),
    "if-m-v4": Row(("--config=deepfloyd_if_m", V4, QUICK)),
    "sdxl-lora-v4": Row((SDXL, V4, QUICK, LORA)),
    "if-l-v4": Row(("--config=deepfloyd_if_l", V4, QUICK), IF_OWN, "if-m-v4"),
    "if-xl-v4-fsdp4": Row(
        ("--config=deepfloyd_if_xl", V4, QUICK, "--fsdp=4"), IF_OWN, "if-m-v4"
    ),
    # What compiling costs otherwise: XLA's own effort, plain attention, loops over equal layers.
    "sd15-v4-default": Row((SD15, V4), "tune", note="XLA's own effort"),
    "sd15-v4-plain": Row((SD15, V4, QUICK, "--config.attention=plain"), "tune", note="plain"),
    "sdxl-lora-v4-loops": Row(
        (SDXL, V4, QUICK, LORA, "--config.scan=True"), "tune", note="layers in loops"
    ),
}  # fmt: skip


def compile_row(name: str, folder: Path) -> int:
    """Compiles one row in a child process; its exit code."""
    row = ROWS[name]
    command = [sys.executable, "-c", RUN, "bench", *row.flags, f"--json={folder / name}.json"]
    if row.stages:
        command.append(f"--stages={row.stages}")
    return subprocess.run(command, env={**os.environ, "JAX_PLATFORMS": "cpu"}).returncode


def read(name: str, folder: Path) -> dict[str, Any] | None:
    """What a row's file holds, parts of the row that it is like with it; None without a file."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    result = json.loads(path.read_text())
    own = set(ROWS[name].stages.split(","))
    like = read(ROWS[name].like, folder) if ROWS[name].like else None
    for r in like["rows"] if like else []:
        times = result["times"].get(r["name"])
        if times is not None and own.isdisjoint({r["name"], r["name"].split()[0]}):
            result["rows"].append({**r, "times": times, "borrowed": True})
    order = list(result["times"])
    result["rows"].sort(key=lambda r: order.index(r["name"]))
    return {**result, "edit": aot.summed(result["rows"], len(order))}


def table(folder: Path) -> str:
    """What is there, in Markdown: a line for each row, then one for each of its parts."""
    found = {name: result for name in ROWS if (result := read(name, folder))}
    rows = [_row(name, result) for name, result in found.items()]
    head = "row, fits, most GiB (of), tuning step ms, fit s, apart s, render s, whole edit s,"
    head += " by floors s, paper s"
    lines = [*_markdown(head.split(", "), rows), "", *_NOTES, ""]
    each = [
        [name, *_part(r)]
        for name, result in found.items()
        for r in result["rows"]
        if "borrowed" not in r
    ]
    head = "row, part, times, fits, GiB, TFLOP, GB accessed, step ms, arithmetic floor ms,"
    head += " traffic floor ms, compile CPU s"
    return "\n".join([*lines, *_markdown(head.split(", "), each), ""])


_NOTES = """\
Times are estimates for one chip (fsdp4: four): the larger of FLOPs at the peak and of the bytes
that XLA counts at the memory's bandwidth. "apart": every stage of a cascade on a chip of its own,
as in the paper. "by floors": arithmetic at the peak and the least traffic, one after the other.
"≥": a program with loops inside, of which XLA counts one round.""".splitlines()


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def _row(name: str, result: dict[str, Any]) -> list[str]:
    rows, edit, note = result["rows"], result["edit"], ROWS[name].note
    most = max((r["memory_gib"] or 0.0 for r in rows), default=0.0)
    tuning = [_number(r["roofline_s"], 1e-3) for r in rows if r["name"].startswith("tune")]
    keys = ("fit_s", "apart_s", "render_s", "roofline_s", "floor_s")
    return [
        f"{name} ({note})" if note else name,
        "yes" if all(r["fits"] for r in rows) else "NO",
        f"{most:.1f} ({result['chip']['memory'] / 2**30:.0f})",
        ", ".join(tuning),
        *(f"{edit[k]:.0f}" if edit else "-" for k in keys),
        PAPER[name[:2]],
    ]


def _part(r: dict[str, Any]) -> list[str]:
    scales = {"memory_gib": 1, "flops": 1e12, "accessed": 1e9, "roofline_s": 1e-3}
    scales |= {"compute_floor_s": 1e-3, "traffic_floor_s": 1e-3, "compile_cpu_s": 1}
    numbers = {key: _number(r[key], scale) for key, scale in scales.items()}
    if r["loops"] and r["accessed"] is not None:
        numbers |= {key: f"≥ {numbers[key]}" for key in ("accessed", "roofline_s")}
    return [r["name"], str(r["times"]), "yes" if r["fits"] else "NO", *numbers.values()]


def _number(value: float | None, scale: float) -> str:
    if value is None:
        return "-"
    value /= scale
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


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
        print(f"{name}: imagic bench {' '.join(ROWS[name].flags)}", file=sys.stderr, flush=True)
        if compile_row(name, folder):
            failed.append(name)
    made = table(folder)
    print(made)
    (folder / "table.md").write_text(made)
    if failed:
        raise SystemExit(f"rows that failed: {', '.join(failed)}")


if __name__ == "__main__":
    app.run(main)
