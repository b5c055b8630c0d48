"""Saving and resuming a loop's state with Orbax: asynchronous, atomic, the last few kept."""

import dataclasses
import errno
import itertools
import os
import re
import time
import types
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from imagic_jax.errors import UserError
from imagic_jax.runtime.paths import AnyPath

_LEAST = 20.0  # seconds between checkpoints where the user says nothing
_SHARE = 0.05  # of the time that saving may take then
_SAVES = 2**40  # more than any process makes


class NoRoom(UserError):
    """A checkpoint could not be written; those before it are whole."""


class Checkpoints:
    """Numbered checkpoints of one pytree in one folder.

    A checkpoint is complete or absent: Orbax writes under a temporary name and renames. Use as a
    context manager, so that a save still on its way is finished.
    """

    def __init__(self, folder: str | AnyPath, keep: int = 2):
        import orbax.checkpoint as ocp  # slow to import, and a plain render does not need it

        self._ocp, self._folder = ocp, os.fspath(folder)
        options: dict[str, Any] = {"max_to_keep": keep, "enable_async_checkpointing": True}
        if jax.process_count() > 1:
            options |= {"multiprocessing_options": own_process(), "create": False}
            absolute(folder).mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(
            absolute(folder), options=ocp.CheckpointManagerOptions(**options)
        )

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        try:
            self._manager.close()
        except Exception as failed:
            if kind is None:  # else that error tells more
                raise self._told(failed) from failed

    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts saving; `state` may be donated as soon as this returns.

        Raises:
            NoRoom: it cannot be written, or the one before could not.
        """
        try:
            self._manager.save(step, args=self._ocp.args.StandardSave(storable(state)))
        except Exception as failed:  # of this save, or of the one before in the background
            raise self._told(failed) from failed

    def restore(self, like: Any, step: int | None = None) -> Any:
        """The state saved at `step` (default: the newest), shaped and placed like `like`.

        Shapes (`jax.ShapeDtypeStruct`) in place of arrays give arrays on the host.

        Raises:
            FileNotFoundError: there is no checkpoint.
        """
        abstract = jax.tree.map(_abstract, like)
        step = self.latest_step() if step is None else step
        if step is None:
            raise FileNotFoundError("no checkpoint in this folder")
        state = self._manager.restore(step, args=self._ocp.args.StandardRestore(abstract))
        return jax.tree.map(
            lambda a, b: np.asarray(b) if isinstance(a, jax.ShapeDtypeStruct) else jnp.asarray(b),
            like,
            state,
        )

    def restore_newest(self, like: Any) -> tuple[int, Any] | None:
        """(step, state) of the newest checkpoint that can be read; None where there is none.

        One that a full disk or a broken one damaged is passed over and deleted.
        """
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return step, self.restore(like, step)
            except Exception:  # Orbax raises many kinds for a damaged checkpoint
                self._manager.delete(step)
        return None

    def _told(self, error: Exception) -> Exception:
        """The error as people need it, where it is about the disk."""
        links: list[BaseException] = [error]
        while (link := links[-1].__cause__ or links[-1].__context__) and link not in links:
            links.append(link)
        words = " ".join(str(e) for e in links)
        numbers = {getattr(e, "errno", None) for e in links}
        numbers |= {int(n) for n in re.findall(r"os_error_code='(\d+)'", words)}  # TensorStore's
        if numbers & {errno.ENOSPC, errno.EDQUOT}:
            return NoRoom(
                f"the disk of {self._folder} is full: make room and give the same command again,"
                " it goes on from the checkpoint before"
            )
        if "coordination" in words:
            return UserError(
                "the first process of this job is gone, and the others cannot save without it:"
                " give the same command again on all hosts, it goes on from the last checkpoints"
            )
        if numbers - {None}:
            return NoRoom(f"no checkpoint can be written to {self._folder} ({error})")
        return error


@dataclasses.dataclass
class SaveTimer:
    """When to save next.

    Attributes:
        steps: after as many steps, or
        seconds: after as many seconds. Where both are None: every 20 s, or less often where
            saving would take more than a twentieth of the time.
    """

    steps: int | None = None
    seconds: float | None = None
    _saved_step: int = 0
    _saved_at: float = dataclasses.field(default_factory=time.monotonic)
    _cost: float = 0.0

    def due(self, step: int) -> bool:
        """Whether the state after `step` steps shall be saved now."""
        if self.steps is not None:
            return step - self._saved_step >= self.steps
        wait = self.seconds
        if wait is None:
            wait = max(_LEAST, self._cost / _SHARE)
        return time.monotonic() - self._saved_at >= wait

    def saved(self, step: int, seconds: float = 0.0) -> None:
        """Notes a save that held the loop up for `seconds`."""
        self._saved_step, self._saved_at, self._cost = step, time.monotonic(), seconds


def parse_save_every(text: str) -> tuple[int | None, float | None]:
    """(steps, seconds) of `--save_every`: "200" steps, "90s" or "5m"; "" for neither.

    Raises:
        UserError: it is none of these.
    """
    if not text:
        return None, None
    number, unit = (text[:-1], text[-1]) if text[-1] in "sm" else (text, "")
    try:
        value = float(number)
        if not 0 < value < 1e9 or (not unit and value != int(value)):
            raise ValueError
    except ValueError:
        raise UserError(
            f"--save_every={text} is not understood: give steps, e.g. 200, or seconds, e.g. 90s,"
            " or minutes, e.g. 5m"
        ) from None
    if not unit:
        return int(value), None
    return None, value * (60.0 if unit == "m" else 1.0)


def own_process() -> Any:
    """Orbax's options for a process that saves its own pictures and waits for no other."""
    import orbax.checkpoint as ocp
    from orbax.checkpoint._src.futures import synchronization
    from orbax.checkpoint._src.serialization import type_handlers

    # Orbax lets process 0 alone write NumPy arrays, whatever the options say, and arrays on the
    # devices of one process not at all.
    writer: Any = types.SimpleNamespace(process_index=lambda: 0)
    type_handlers.multihost = writer
    me = jax.process_index()
    # It numbers saves alike in all processes, and takes down the signals of a number that one of
    # them is done with: another one would wait for them in vain. So each counts from elsewhere.
    ids, first = synchronization.OperationIdGenerator, me * _SAVES
    if int(ids.get_current_operation_id()) < first:
        ids._operation_id_counter = itertools.count(first)
        ids.next_operation_id()
    return ocp.options.MultiprocessingOptions(
        primary_host=me, active_processes={me}, barrier_sync_key_prefix=f"process{me}"
    )


def storable(tree: Any) -> Any:
    """A copy on the host that Orbax can write while the arrays are overwritten."""
    # An explicit copy: on CPU a host view of a device array is no copy, and the next chunk would
    # write into it while it is being saved.
    return jax.tree.map(lambda a: np.array(a, copy=True), tree)


def absolute(folder: str | AnyPath) -> Any:
    """The path in full; buckets as they are."""
    return epath.Path(folder if "://" in os.fspath(folder) else Path(folder).absolute())


def _abstract(a: Any) -> Any:
    """How to read one array: placed like `a` where `a` was placed on purpose, else on the host.

    Orbax would commit every array to its device, and a program compiled for arrays that nobody
    placed is another program to JAX: going on would compile again.
    """
    if isinstance(a, jax.Array) and a.committed:
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)
    return np.empty(a.shape, a.dtype)
