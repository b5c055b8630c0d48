"""How long a full-size SD1.5 folder takes to load, and how much memory: ours against PyTorch.

    python benchmarks/load_checkpoint.py --folder=/tmp/sd15 --json=load.json

PyTorch diffusers writes the folder once (random weights, float32, 4.3 GB; ten seconds and as much
memory). Then each side loads UNet, autoencoder and text encoder in a child process of its own, in
turn, from a warm page cache. Imports and the start of JAX are not counted. PyTorch maps a float32
file into memory and reads nothing until a weight is used, so the clock stops when every weight has
been read once (one sum over each tensor) on both sides; the time of the call alone stands beside.

Peak memory is the most that the process had resident while it loaded, less what it had before,
over the size of the parameters in their target dtype. Goals: time at most 1.3 of PyTorch's, peak
at most 1.2 of the model.
"""

import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from absl import app, flags
from sd15 import PARTS, forget_peak, in_child, machine, memory, warm_up_files, written

_FOLDER = flags.DEFINE_string("folder", None, "Where the model is or goes; a temporary place.")
_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Loads per side and dtype; the median counts.", 1)
_TINY = flags.DEFINE_bool("tiny", False, "A tiny model, to try this program.")
_CHILD = flags.DEFINE_string("child", None, "SIDE,DTYPE: measure one load here.")

DTYPES = ("float32", "bfloat16", "float16")
GOALS = {"time": 1.3, "memory": 1.2}

Loader = Callable[[Path, str], list[Any]]


def load_pytorch(folder: Path, dtype: str) -> list[Any]:
    """All tensors of the folder's three models."""
    import torch

    tensors = []
    for part, kind in _pytorch_classes().items():
        model = kind.from_pretrained(folder / part, torch_dtype=getattr(torch, dtype))
        tensors += list(model.parameters())
    return tensors


def _pytorch_classes() -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextModel

    return {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


def load_ours(folder: Path, dtype: str) -> list[Any]:
    """All arrays of the folder's three models, on the default device."""
    import jax

    from imagic_jax.weights import load_part

    trees = [load_part(folder / part, param_dtype=dtype)[1] for part in PARTS]
    return jax.block_until_ready(jax.tree.leaves(trees))


def child(side: str, dtype: str, folder: Path) -> dict[str, float]:
    """One load, measured in this process."""
    load, views = _prepared(side)
    before = memory("VmRSS")
    forget_peak()
    began, used = time.perf_counter(), time.process_time()
    tensors = load(folder, dtype)
    called = time.perf_counter() - began
    checksum = sum(int(view.sum(dtype="int64")) for view in views(tensors))
    return {
        "load_s": time.perf_counter() - began,
        "call_s": called,
        "cpu_s": time.process_time() - used,
        "peak_bytes": memory("VmHWM") - before,
        "held_bytes": memory("VmRSS") - before,
        "model_bytes": sum(tensor.nbytes for tensor in tensors),
        "checksum": checksum,
    }


def _prepared(side: str) -> tuple[Loader, Callable[[list[Any]], Iterator[Any]]]:
    """A side's loader with everything imported, and how NumPy sees its tensors' bits."""
    import numpy as np

    if side == "pytorch":
        import torch

        torch.set_num_threads(2)
        _pytorch_classes()

        def views(tensors: list[Any]) -> Iterator[Any]:
            bits = {4: torch.int32, 2: torch.int16}
            return (t.detach().view(bits[t.element_size()]).numpy() for t in tensors)

        return load_pytorch, views

    import jax.numpy as jnp

    import imagic_jax.weights  # noqa: F401

    jnp.zeros(1).block_until_ready()

    def views(tensors: list[Any]) -> Iterator[Any]:
        bits = {4: np.int32, 2: np.int16}
        return (np.asarray(t).view(bits[t.dtype.itemsize]) for t in tensors)

    return load_ours, views


def measure(folder: Path, dtype: str) -> dict[str, Any]:
    """Both sides in turn, several times: medians and ratios."""
    runs: dict[str, list[dict[str, float]]] = {"pytorch": [], "ours": []}
    for _ in range(_REPEATS.value):
        for side, rows in runs.items():
            rows.append(in_child(Path(__file__), f"--folder={folder}", f"--child={side},{dtype}"))
    assert len({row["checksum"] for rows in runs.values() for row in rows}) == 1
    row: dict[str, Any] = {}
    for side, rows in runs.items():
        middle = {k: statistics.median(r[k] for r in rows) for k in rows[0]}
        row[side] = {k: round(v, 3) for k, v in middle.items() if k.endswith("_s")}
        row[side]["peak_gib"] = round(middle["peak_bytes"] / 2**30, 2)
        row[side]["peak_over_model"] = round(middle["peak_bytes"] / middle["model_bytes"], 3)
        row[side]["all_load_s"] = [round(r["load_s"], 2) for r in rows]
    row["model_gib"] = round(runs["ours"][0]["model_bytes"] / 2**30, 3)
    row["time_ratio"] = round(row["ours"]["load_s"] / row["pytorch"]["load_s"], 3)
    row["goals_met"] = {
        "time": row["time_ratio"] <= GOALS["time"],
        "memory": row["ours"]["peak_over_model"] <= GOALS["memory"],
    }
    return row


def main(argv: list[str]) -> None:
    """Prints a line for each dtype."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _CHILD.value:
        print(json.dumps(child(*_CHILD.value.split(","), folder=Path(_FOLDER.value))))
        return
    facts = machine()
    with ExitStack() as stack:
        folder = _FOLDER.value or stack.enter_context(tempfile.TemporaryDirectory())
        folder = written(Path(folder), _TINY.value)
        size = warm_up_files(folder)
        rows = {}
        for dtype in DTYPES:
            rows[dtype] = row = measure(folder, dtype)
            ours, theirs = row["ours"], row["pytorch"]
            print(
                f"{dtype}: ours {ours['load_s']:.2f} s, PyTorch {theirs['load_s']:.2f} s, ratio "
                f"{row['time_ratio']:.2f}; peak over model: ours {ours['peak_over_model']:.2f}, "
                f"PyTorch {theirs['peak_over_model']:.2f}",
                flush=True,
            )
    if _JSON.value:
        result = {"machine": facts, "files_bytes": size, "goals": GOALS, "rows": rows}
        Path(_JSON.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
