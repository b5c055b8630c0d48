"""Compiling programs in the background before they are needed.

XLA compiles one program on one core. While the first stage of a job compiles and runs, the later
ones' programs can compile beside it: `lower().compile()` in a thread fills the same cache that the
call reads later.
"""

import os
import queue
import threading
import warnings
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

#: Lowers a program; what it returns has `.compile()`.
Lowering = Callable[[], Any]
_WORKERS = min(4, os.cpu_count() or 1)
_POLL = 0.2  # seconds
_NAME = "imagic-compile-ahead"


def compiling() -> bool:
    """Whether a program is being compiled in the background.

    XLA cannot be stopped in the middle, and an interpreter that ends meanwhile aborts: such a
    process must end by `os._exit`.
    """
    return any(thread.name == _NAME for thread in threading.enumerate())


class Ahead:
    """Compiles named programs in threads, in the order given. Use as a context manager.

    Args:
        programs: what to compile, first needed first.
    """

    def __init__(self, programs: Mapping[str, Lowering]):
        self._ready = {name: threading.Event() for name in programs}
        self._failed: dict[str, Exception] = {}
        self._waiting: queue.SimpleQueue[tuple[str, Lowering]] = queue.SimpleQueue()
        for row in programs.items():
            self._waiting.put(row)
        self._threads = [
            threading.Thread(target=self._work, daemon=True, name=_NAME)
            for _ in range(min(_WORKERS, len(programs)))
        ]

    def __enter__(self) -> "Ahead":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        while True:  # what has not begun is not begun any more
            try:
                self._waiting.get_nowait()
            except queue.Empty:
                return

    def wait(self, name: str, stop: Callable[[], bool] = lambda: False) -> bool:
        """Waits until a program is compiled; False if `stop()` became true before.

        A name that was not given is ready: its first call compiles it. So it does with a program
        that could not be compiled here, of which a warning tells.
        """
        ready = self._ready.get(name)
        while ready is not None and not ready.wait(_POLL):
            if stop():
                return False
        if (error := self._failed.pop(name, None)) is not None:
            warnings.warn(
                f"{name!r} could not be compiled ahead of its use: {error!r}",
                RuntimeWarning,
                stacklevel=2,
            )
        return True

    def _work(self) -> None:
        while True:
            try:
                name, lower = self._waiting.get_nowait()
            except queue.Empty:
                return
            try:
                lower().compile()
            except Exception as error:  # told by whoever waits for it, not by this thread
                self._failed[name] = error
            finally:
                self._ready[name].set()
