"""What one benchmark item cost a method: seconds without compiling, evaluations, memory."""

import resource
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from imagic_jax.runtime.compilation import counted


class Cost(NamedTuple):
    """What one item cost; evaluations are pictures that pass through the base's UNet, where a
    gradient counts as two further ones."""

    fit_s: float  # seconds before anything is drawn, without compiling
    render_s: float  # seconds per picture drawn
    compile_s: float
    gradient_steps: int
    fit_evaluations: int
    render_evaluations: float  # per picture
    memory_mib: float  # peak of the device, or on CPU of this process so far


class Clock:
    """Seconds of the two halves of a run, compiling taken out."""

    def __init__(self) -> None:
        self.seconds = {"fit": 0.0, "render": 0.0}
        self.compile_s = 0.0

    def measure(self, part: str, work: Callable[[], Any]) -> Any:
        """Runs `work` to its end; its seconds are added to `part`."""
        began = time.perf_counter()
        with counted() as compiled:
            result = jax.block_until_ready(work())
        self.seconds[part] += max(time.perf_counter() - began - compiled.seconds, 0.0)
        self.compile_s += compiled.seconds
        return result

    def cost(self, pictures: int, gradient_steps: int, fit: int, render: int | float) -> Cost:
        """All of it, for so many pictures drawn; `fit` and `render` are evaluations."""
        each = self.seconds["render"] / pictures
        passes = fit, float(render)
        return Cost(self.seconds["fit"], each, self.compile_s, gradient_steps, *passes, peak_mib())


def peak_mib() -> float:
    """Peak memory of the device, or on CPU of this process so far."""
    used = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    if used is not None:
        return used / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
