"""Where the seconds of a job went."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

from imagic_jax.runtime.compilation import counted


@dataclasses.dataclass
class StageTime:
    """One stage of a method: its steps, wall time, and how much of that was compilation."""

    name: str
    steps: int = 0
    compile_s: float = 0.0
    total_s: float = 0.0
    losses: list[float] = dataclasses.field(default_factory=list)

    @property
    def run_s(self) -> float:
        return max(self.total_s - self.compile_s, 0.0)

    def row(self) -> dict[str, Any]:
        """For result.json."""
        return {
            "name": self.name,
            "steps": self.steps,
            "compile_s": round(self.compile_s, 2),
            "run_s": round(self.run_s, 2),
            "total_s": round(self.total_s, 2),
        }


@contextlib.contextmanager
def timed(spent: StageTime) -> Iterator[None]:
    """Adds the block's wall time, and how much of it is compilation."""
    began = time.perf_counter()
    with counted() as compiled:
        try:
            yield
        finally:
            spent.total_s += time.perf_counter() - began
            spent.compile_s += compiled.seconds


def timings(times: Sequence[StageTime], total: float) -> dict[str, Any]:
    """Seconds by kind of work and by stage; compilation counts as its own kind."""

    def running(prefix: str) -> float:
        return round(sum((t.run_s for t in times if t.name.startswith(prefix)), 0.0), 2)

    return {
        "compile_s": round(sum(t.compile_s for t in times), 2),
        "embed_s": running("embedding"),
        "finetune_s": running("tuning"),
        "invert_s": running("inverting"),
        "render_s": running("rendering"),
        "total_s": round(total, 2),
        "stages": [t.row() for t in times],
    }
