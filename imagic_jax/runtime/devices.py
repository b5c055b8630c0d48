"""What chips can do: peak arithmetic, memory and its bandwidth, and where the numbers come from.

The peaks are those of dense bfloat16 products with float32 sums, as the makers print them; no
program reaches them. A CPU is measured, in float32.
"""

import dataclasses
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_GB, _T = 10**9, 1e12


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One accelerator, or this machine's CPU.

    Attributes:
        name: as people call it.
        peak: FLOP/s.
        bandwidth: of its memory, bytes/s.
        memory: bytes.
        source: where the numbers are from.
    """

    name: str
    peak: float
    bandwidth: float
    memory: int
    source: str


_SCALING = "jax-ml.github.io/scaling-book/tpus"
_CLOUD = "cloud.google.com/tpu/docs"
_NVIDIA = "NVIDIA's data sheet"


def _row(name: str, tflops: int, gbps: int, memory: int, source: str) -> Chip:
    return Chip(name=name, peak=tflops * _T, bandwidth=gbps * 1e9, memory=memory, source=source)


#: By what `jax.Device.device_kind` begins with; a longer beginning comes first.
CHIPS: dict[str, Chip] = {
    "TPU v4": _row("TPU v4", 275, 1200, 32 * 2**30, _SCALING),
    "TPU v5 lite": _row("TPU v5e", 197, 819, 16 * 2**30, _CLOUD),
    "TPU v5e": _row("TPU v5e", 197, 819, 16 * 2**30, _CLOUD),
    "TPU v5": _row("TPU v5p", 459, 2765, 95 * 2**30, _CLOUD),
    "TPU v6 lite": _row("TPU v6e", 918, 1640, 32 * 2**30, _CLOUD),
    "TPU v6e": _row("TPU v6e", 918, 1640, 32 * 2**30, _CLOUD),
    "NVIDIA A100-SXM4-40GB": _row("A100 40GB", 312, 1555, 40 * _GB, _NVIDIA),
    "NVIDIA A100-PCIE-40GB": _row("A100 40GB", 312, 1555, 40 * _GB, _NVIDIA),
    "NVIDIA A100": _row("A100 80GB", 312, 2039, 80 * _GB, _NVIDIA),
    "NVIDIA H100 PCIe": _row("H100 PCIe", 756, 2000, 80 * _GB, _NVIDIA),
    "NVIDIA H100": _row("H100", 989, 3350, 80 * _GB, _NVIDIA),
    "NVIDIA H200": _row("H200", 989, 4800, 141 * _GB, _NVIDIA),
}


def chip_of(kind: str) -> Chip | None:
    """The chip that JAX calls `kind` (`jax.Device.device_kind`); None for one not listed here."""
    return next((chip for start, chip in CHIPS.items() if kind.startswith(start)), None)


def this_chip() -> Chip | None:
    """The first device's chip; a CPU is measured, which takes about a second."""
    device = jax.devices()[0]
    return measured_cpu() if device.platform == "cpu" else chip_of(device.device_kind)


def peak_memory() -> int:
    """Most bytes that this process has held so far: on the first device, or of a CPU's memory."""
    stats = jax.devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def memory_in_use() -> int:
    """Bytes that this process holds now, where `peak_memory` counts; 0 where that is not told."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_in_use" in stats:
        return int(stats["bytes_in_use"])
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def measured_cpu(width: int = 2048, repeats: int = 3) -> Chip:
    """What this CPU does: a float32 product of two (width, width) matrices, and a large copy."""
    a = jnp.ones((width, width), jnp.float32)
    product = jax.jit(jnp.matmul)
    peak = 2 * width**3 / _shortest(lambda: product(a, a), repeats)
    big = jnp.ones((64 * 2**20,), jnp.float32)
    read_and_written = 2 * big.nbytes
    bandwidth = read_and_written / _shortest(lambda: _negated(big), repeats)
    return Chip(
        name=f"this CPU ({os.cpu_count()} cores)",
        peak=peak,
        bandwidth=bandwidth,
        memory=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        source=f"measured: float32 product of {width} x {width}, negation of 256 MiB",
    )


@jax.jit
def _negated(a: jax.Array) -> jax.Array:
    return -a


def _shortest(run: Callable[[], Any], repeats: int) -> float:
    """Seconds of the fastest of several calls, after one that compiles."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return min(seconds)
