"""Ctrl-C and SIGTERM as a flag that loops look at between chunks.

A first signal lets the running chunk finish, so that the state can be saved; a second one stops at
once.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(Exception):
    """The user or the machine asked to stop, and the work so far is saved."""


class StopFlag:
    """True once a stop was asked for."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextlib.contextmanager
def stop_flag() -> Iterator[StopFlag]:
    """Catches SIGINT and SIGTERM inside the block (main thread only)."""
    flag = StopFlag()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def on_signal(number: int, frame: FrameType | None) -> None:
        if flag:
            raise KeyboardInterrupt
        flag.signal = number

    before = {s: signal.signal(s, on_signal) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield flag
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
