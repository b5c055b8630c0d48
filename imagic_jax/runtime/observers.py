"""What may look on while loops run: traces for XProf, scalars for TensorBoard.

A `Reporter` tells its observers after every chunk of steps.
"""

import importlib.util
import re
import threading
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax

from imagic_jax.errors import UserError
from imagic_jax.runtime import devices


@runtime_checkable
class Observer(Protocol):
    """Told of every chunk of steps of every stage, from whichever thread runs it."""

    def update(self, stage: str, done: int, steps: int, seconds: float, loss: float | None) -> None:
        """`steps` more of `stage` took `seconds`; `done` in all. `loss` is recent, if there is one.

        The first call of a stage counts its compilation in.
        """
        ...

    def close(self) -> list[str]:
        """Nothing follows; sentences for people."""
        ...


class Profile:
    """Writes an XProf trace of a few steady steps of each stage: of its third chunk.

    The first chunk compiles, the second fills caches. Look at a trace with
    `xprof --logdir=FOLDER`, or in TensorBoard's profile plugin.

    Args:
        folder: every stage's trace goes into a folder of its own in it.
    """

    _BEFORE = 2  # chunks

    def __init__(self, folder: Path):
        self._folder = folder
        self._chunks: dict[str, int] = {}
        self._traced: str | None = None  # a process has one trace at a time
        self._written: list[str] = []
        self._lock = threading.Lock()

    def update(self, stage: str, done: int, steps: int, seconds: float, loss: float | None) -> None:
        with self._lock:
            self._chunks[stage] = seen = self._chunks.get(stage, 0) + 1
            if self._traced == stage:
                self._stop()
            elif seen >= self._BEFORE and self._traced is None and stage not in self._written:
                jax.profiler.start_trace(str(self._folder / file_name(stage)))
                self._traced = stage

    def _stop(self) -> None:
        assert self._traced is not None
        jax.profiler.stop_trace()
        self._written.append(self._traced)
        self._traced = None

    def close(self) -> list[str]:
        with self._lock:
            if self._traced is not None:
                self._stop()
            short = [s for s in self._chunks if s not in self._written]
        lines = [f"traces of {', '.join(self._written)} are in {self._folder}"]
        if short:
            lines.append(f"too short to be traced: {', '.join(short)}")
        return lines if self._written else lines[1:]


class Scalars:
    """Writes loss, steps per second and memory of every chunk for TensorBoard.

    Args:
        folder: where the event file goes.

    Raises:
        UserError: tensorboardX is not installed.
    """

    def __init__(self, folder: Path):
        if not _installed("tensorboardX"):
            raise UserError(
                "--tensorboard needs tensorboardX: pip install 'imagic-jax[tensorboard]'"
            )
        import tensorboardX

        self._writer: Any = tensorboardX.SummaryWriter(str(folder))
        self._warm: set[str] = set()
        self._lock = threading.Lock()

    def update(self, stage: str, done: int, steps: int, seconds: float, loss: float | None) -> None:
        values = {"memory_gib": devices.memory_in_use() / 2**30}
        if loss is not None:
            values["loss"] = loss
        with self._lock:
            if stage in self._warm:
                values["steps_per_s"] = steps / max(seconds, 1e-9)
            self._warm.add(stage)
            for name, value in values.items():
                self._writer.add_scalar(f"{file_name(stage)}/{name}", value, done)

    def close(self) -> list[str]:
        self._writer.close()
        return []


def _installed(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except ValueError:  # something else stands in its place
        return False


def file_name(stage: str) -> str:
    """A stage's name as a file's."""
    return re.sub(r"\W+", "_", stage).strip("_")
