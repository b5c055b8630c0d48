"""One step of Imagic on Stable Diffusion 1.5 at 512x512 on CPU: ours against PyTorch diffusers.

    python benchmarks/sd_step.py --folder=/tmp/sd15 --json=sd_step.json

Three rows: a step on the text states (gradient through the frozen UNet, Adam), a step on the whole
UNet (gradient, Adam, all in float32), and one guided sampling step (batch of two, DDIM). Both
sides have the same random weights, in the folder that `load_checkpoint.py` uses too, and the same
inputs; their results must agree. Each row and side is a child process of its own, in turn; the
first step (with compilation) is not counted, the median of the others is. Goal: ratio at most 1.

Tuning needs 16-20 GiB of memory on either side.
"""

import functools
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from sd15 import PARTS, TINY, in_child, machine, written

_FOLDER = flags.DEFINE_string("folder", None, "Where the model is or goes; a temporary place.")
_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")
_SIZE = flags.DEFINE_integer("size", 512, "Pixels per side, a multiple of 64.", 64)
_STEPS = flags.DEFINE_integer("steps", 3, "Steps that count, per process.", 1)
_REPEATS = flags.DEFINE_integer("repeats", 1, "Processes per row and side.", 1)
_ROWS = flags.DEFINE_list("rows", ["embed", "tune", "sample"], "What to measure.")
_TINY = flags.DEFINE_bool("tiny", False, "A tiny model, to try this program.")
_CHILD = flags.DEFINE_string("child", None, "SIDE,ROW: measure here.")

RATES = {"embed": 2e-3, "tune": 5e-7}
GUIDANCE = 7.5
T, T_NEXT = 501, 481

Step = Callable[[], float]
"""Makes one step and returns a number that both sides must agree on: loss, or the size of x."""


@functools.cache
def abar(t: int) -> float:
    """Stable Diffusion's signal level at timestep t."""
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return float(np.cumprod(1 - betas)[t])


def inputs() -> dict[str, np.ndarray]:
    """A noisy latent, its noise, and two texts' states; NHWC."""
    rng, side = np.random.default_rng(0), _SIZE.value // 8
    width = (PARTS["unet"] | (TINY["unet"] if _TINY.value else {}))["cross_attention_dim"]
    x0, eps = rng.normal(size=(2, 1, side, side, 4))
    noisy = abar(T) ** 0.5 * x0 + (1 - abar(T)) ** 0.5 * eps
    arrays = {"x": noisy, "eps": eps, "text": rng.normal(size=(2, 77, width))}
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def ddim(x: Any, eps: Any) -> Any:
    """x one step less noisy (Song et al. 2021, eta = 0)."""
    x0 = (x - (1 - abar(T)) ** 0.5 * eps) / abar(T) ** 0.5
    return abar(T_NEXT) ** 0.5 * x0 + (1 - abar(T_NEXT)) ** 0.5 * eps


def pytorch(row: str, folder: Path) -> Step:
    """PyTorch diffusers' step."""
    import torch
    from diffusers import UNet2DConditionModel

    torch.set_num_threads(machine()["cores"])
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    given = {k: torch.from_numpy(v) for k, v in inputs().items()}
    x, eps = (given[k].permute(0, 3, 1, 2).contiguous() for k in ("x", "eps"))
    if row == "sample":

        @torch.no_grad()
        def sample() -> float:
            null, cond = unet(x.repeat(2, 1, 1, 1), T, given["text"]).sample.chunk(2)
            return float(ddim(x, null + GUIDANCE * (cond - null)).abs().mean())

        return sample
    states = given["text"][:1].clone().requires_grad_(row == "embed")
    unet.requires_grad_(row == "tune").train(row == "tune")
    trained = unet.parameters() if row == "tune" else [states]
    optimizer = torch.optim.Adam(trained, lr=RATES[row])

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.mse_loss(unet(x, T, states).sample, eps)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def ours(row: str, folder: Path) -> Step:
    """Our step; the optimisations run through the loop that edits use."""
    import jax
    import jax.numpy as jnp
    import optax

    from imagic_jax.runtime import loop
    from imagic_jax.weights import load_part

    module, params = load_part(folder / "unet")
    given = jax.tree.map(jnp.asarray, inputs())

    def predict(params: Any, x: Any, states: Any) -> Any:
        return module.apply({"params": params}, x, jnp.int32(T), states)

    if row == "sample":

        @jax.jit
        def denoise(params: Any, given: Any) -> Any:
            x = given["x"]
            null, cond = jnp.split(predict(params, jnp.tile(x, (2, 1, 1, 1)), given["text"]), 2)
            return jnp.abs(ddim(x, null + GUIDANCE * (cond - null))).mean()

        return lambda: float(denoise(params, given))
    optimizer = optax.adam(RATES[row])

    def step(state: Any, data: Any, index: Any) -> Any:
        def loss_of(trained: Any) -> Any:
            used = trained if row == "tune" else data["params"]
            states = data["text"][:1] if row == "tune" else trained
            return jnp.square(predict(used, data["x"], states) - data["eps"]).mean()

        loss, gradient = jax.value_and_grad(loss_of)(state["trained"])
        updates, adam = optimizer.update(gradient, state["adam"])
        return {"trained": optax.apply_updates(state["trained"], updates), "adam": adam}, loss

    trained = params if row == "tune" else given["text"][:1]
    data = given if row == "tune" else given | {"params": params}
    state = loop.LoopState(0, {"trained": trained, "adam": optimizer.init(trained)})
    del params, trained  # the loop takes the state's memory over
    holder, losses = [state], []
    del state

    def once() -> float:
        before = holder.pop()
        done = before.step + 1
        after = loop.run(step, before, data, done, on_chunk=lambda c: losses.extend(c.losses))
        holder.append(after)
        return float(losses[-1])

    return once


def child(side: str, row: str, folder: Path) -> dict[str, Any]:
    """Measures one row of one side in this process."""
    step = {"pytorch": pytorch, "ours": ours}[side](row, folder)
    began = time.perf_counter()
    first = step()
    warm_up = time.perf_counter() - began
    seconds, cpu = [], []
    for _ in range(_STEPS.value):
        began, used = time.perf_counter(), time.process_time()
        last = step()
        seconds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
    return {"s": seconds, "cpu_s": cpu, "first_s": warm_up, "peak_gib": peak} | {
        "first": first,
        "last": last,
    }


def measure(row: str, folder: Path) -> dict[str, Any]:
    """Both sides in turn: medians and their ratio."""
    runs: dict[str, list[dict[str, Any]]] = {"pytorch": [], "ours": []}
    flags_here = [f"--folder={folder}", f"--size={_SIZE.value}", f"--steps={_STEPS.value}"]
    flags_here.append(f"--tiny={_TINY.value}")
    for _ in range(_REPEATS.value):
        for side, rows in runs.items():
            rows.append(in_child(Path(__file__), *flags_here, f"--child={side},{row}"))
    result: dict[str, Any] = {}
    for side, rows in runs.items():
        result[side] = {
            "s": round(statistics.median(s for r in rows for s in r["s"]), 3),
            "cpu_s": round(statistics.median(s for r in rows for s in r["cpu_s"]), 3),
            "all_s": [round(s, 3) for r in rows for s in r["s"]],
            "first_s": round(statistics.median(r["first_s"] for r in rows), 1),
            "peak_gib": round(max(r["peak_gib"] for r in rows), 2),
            "first": rows[0]["first"],
            "last": rows[0]["last"],
        }
    result["ratio"] = round(result["ours"]["s"] / result["pytorch"]["s"], 3)
    result["cpu_ratio"] = round(result["ours"]["cpu_s"] / result["pytorch"]["cpu_s"], 3)
    for which in ("first", "last"):
        both = [result[side][which] for side in runs]
        if not np.isclose(*both, rtol=1e-3):
            raise SystemExit(f"{row}: the two sides disagree: {both}")
    return result


def main(argv: list[str]) -> None:
    """Prints a line for each row."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    if _CHILD.value:
        print(json.dumps(child(*_CHILD.value.split(","), folder=Path(_FOLDER.value))))
        return
    facts, rows = machine(), {}
    with ExitStack() as stack:
        place = _FOLDER.value or stack.enter_context(tempfile.TemporaryDirectory())
        folder = written(Path(place), _TINY.value)
        for name in _ROWS.value:
            rows[name] = row = measure(name, folder)
            mine, theirs = row["ours"], row["pytorch"]
            print(
                f"{name}: ours {mine['s']:.2f} s, PyTorch {theirs['s']:.2f} s, ratio "
                f"{row['ratio']:.2f} (by CPU time {row['cpu_ratio']:.2f}); peak "
                f"{mine['peak_gib']:.1f} and {theirs['peak_gib']:.1f} GiB",
                flush=True,
            )
    if _JSON.value:
        result = {"machine": facts, "size": _SIZE.value, "tiny": _TINY.value, "rows": rows}
        Path(_JSON.value).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
