"""Where the seconds of a job went."""

import dataclasses
from collections.abc import Sequence
from typing import Any


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


def timings(times: Sequence[StageTime], total: float) -> dict[str, Any]:
    """Seconds by kind of work and by stage; compilation counts as its own kind."""

    def running(prefix: str) -> float:
        return round(sum((t.run_s for t in times if t.name.startswith(prefix)), 0.0), 2)

    return {
        "compile_s": round(sum(t.compile_s for t in times), 2),
        "embed_s": running("embedding"),
        "finetune_s": running("tuning"),
        "render_s": running("rendering"),
        "total_s": round(total, 2),
        "stages": [t.row() for t in times],
    }
