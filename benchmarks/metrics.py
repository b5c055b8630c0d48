"""How fast picture pairs are scored, against torchmetrics and lpips on the same CPU in one run.

    PYTHONPATH=tests:tests/parity python benchmarks/metrics.py --count=1000 \
        --json=benchmarks/results/metrics-cpu.json

Random pairs of 256 x 256 by PSNR, SSIM (11 x 11 Gaussian) and LPIPS-alex, in batches; AlexNet has
drawn weights, which take as long as trained ones. Each side runs alone, in rounds that take turns;
the best round counts, and compiling does not. What both sides gave is compared too. Needs PyTorch,
torchmetrics and lpips (`pip install '.[parity]'`); run it on an otherwise idle machine.
"""

import functools
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import app, flags

_COUNT = flags.DEFINE_integer("count", 1000, "Pairs to score.", lower_bound=1)
_SIZE = flags.DEFINE_integer("size", 256, "Pixels per side.", lower_bound=64)
_BATCH = flags.DEFINE_integer("batch", 8, "Pairs per call.", lower_bound=1)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds; the best counts.", lower_bound=1)
_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")

Score = Callable[[np.ndarray, np.ndarray], np.ndarray]


def ours() -> dict[str, Score]:
    """{metric: function of two batches in [0, 1], NHWC}."""
    import metric_networks

    from imagic_jax.metrics import lpips, psnr, ssim

    module, params, _ = metric_networks.lpips_network("alex")
    run = jax.jit(lambda p, x, y: lpips.lpips(module, p, 2 * x - 1, 2 * y - 1))
    scores = {
        "psnr": jax.jit(functools.partial(psnr.psnr, peak=1.0)),
        "ssim": jax.jit(functools.partial(ssim.ssim, edges="reflect")),
        "lpips_alex": functools.partial(run, params),
    }
    return {name: _on_host(score) for name, score in scores.items()}


def _on_host(score: Callable) -> Score:
    return lambda x, y: np.asarray(score(x, y))


def theirs() -> dict[str, Score]:
    """The same of torchmetrics and lpips, on NCHW."""
    import live_metrics
    import torch

    live_metrics.fidelity_module("helpers")
    from torchmetrics.functional import image

    torch.set_num_threads(os.cpu_count() or 1)
    model = live_metrics.lpips_reference("alex")
    psnr, ssim = image.peak_signal_noise_ratio, image.structural_similarity_index_measure
    scores = {
        "psnr": functools.partial(psnr, data_range=1.0, reduction="none", dim=(1, 2, 3)),
        "ssim": functools.partial(ssim, data_range=1.0, reduction="none"),
        "lpips_alex": lambda x, y: model(x, y, normalize=True)[:, 0, 0, 0],
    }

    def on_host(score: Callable) -> Score:
        def run(x: np.ndarray, y: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return score(torch.from_numpy(x), torch.from_numpy(y)).numpy()

        return run

    return {name: on_host(score) for name, score in scores.items()}


def timed(score: Score, batches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray]:
    """Seconds, and the values."""
    began = time.perf_counter()
    values = [score(x, y) for x, y in batches]
    return time.perf_counter() - began, np.concatenate(values)


def compare(batches: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Seconds of either side by metric, their ratio, and the largest difference."""
    nchw = [tuple(np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in b) for b in batches]
    sides = {"imagic_jax": (ours(), batches), "pytorch": (theirs(), nchw)}
    rows: dict[str, dict[str, float]] = {}
    for name in ("psnr", "ssim", "lpips_alex"):
        best, values = dict.fromkeys(sides, float("inf")), {}
        for scores, given in sides.values():
            scores[name](*given[0])  # compiles, warms up
            scores[name](*given[-1])
        for _ in range(_ROUNDS.value):
            for side, (scores, given) in sides.items():
                seconds, values[side] = timed(scores[name], given)
                best[side] = min(best[side], seconds)
        apart = np.abs(values["imagic_jax"] - values["pytorch"]).max()
        rows[name] = best | {"largest difference": float(apart)}
    rows["together"] = {side: sum(row[side] for row in rows.values()) for side in sides}
    for row in rows.values():
        row["ratio"] = row["imagic_jax"] / row["pytorch"]
    return rows


def main(argv: list[str]) -> None:
    """Prints the table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    load = os.getloadavg()[0]
    random, size = np.random.default_rng(0), _SIZE.value
    pictures = random.random((_COUNT.value, size, size, 3), np.float32)
    noise = random.normal(0, 0.1, pictures.shape).astype(np.float32)
    others = np.clip(pictures + noise, 0, 1)
    starts = range(0, _COUNT.value, _BATCH.value)
    batches = [(pictures[i : i + _BATCH.value], others[i : i + _BATCH.value]) for i in starts]
    rows = compare(batches)
    print(f"{_COUNT.value} pairs of {size} x {size}, seconds (ratio below 1: faster than PyTorch)")
    for name, row in rows.items():
        print(f"{name:<12}" + "".join(f"{key} {value:.4g}   " for key, value in row.items()))
    if _JSON.value:
        _write(Path(_JSON.value), rows, load)


def _write(path: Path, rows: dict[str, dict[str, float]], load: float) -> None:
    import lpips
    import torch
    import torchmetrics

    machine = {
        "cores": os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "torch": torch.__version__,
        "torchmetrics": torchmetrics.__version__,
        "lpips": getattr(lpips, "__version__", "0.1"),
        "load_before": round(load, 2),
    }
    settings = {"pairs": _COUNT.value, "size": _SIZE.value, "batch": _BATCH.value}
    about = {"machine": machine, "settings": settings, "rows": rows}
    path.write_text(json.dumps(about, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
