"""Saving and resuming a loop's state with Orbax: asynchronous, atomic, the last few kept."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Checkpoints:
    """Numbered checkpoints of one pytree in one folder.

    A checkpoint is complete or absent: Orbax writes under a temporary name and renames. Use as a
    context manager, so that a save still on its way is finished.
    """

    def __init__(self, folder: str | Path, keep: int = 2):
        import orbax.checkpoint as ocp  # slow to import, and a plain render does not need it

        self._ocp = ocp
        options = ocp.CheckpointManagerOptions(max_to_keep=keep, enable_async_checkpointing=True)
        self._manager = ocp.CheckpointManager(Path(folder).absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *error: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """The newest complete checkpoint's step, or None."""
        return self._manager.latest_step()

    def save(self, step: int, state: Any) -> None:
        """Starts saving; `state` may be donated as soon as this returns."""
        # An explicit copy: on CPU a host view of a device array is no copy, and the next chunk
        # would write into it while it is being saved.
        host = jax.tree.map(lambda a: np.array(a, copy=True), state)
        self._manager.save(step, args=self._ocp.args.StandardSave(host))

    def restore(self, like: Any, step: int | None = None) -> Any:
        """The state saved at `step` (default: the newest), shaped and placed like `like`.

        Raises:
            FileNotFoundError: there is no checkpoint.
        """
        abstract = jax.tree.map(_abstract, like)
        step = self.latest_step() if step is None else step
        if step is None:
            raise FileNotFoundError("no checkpoint in this folder")
        state = self._manager.restore(step, args=self._ocp.args.StandardRestore(abstract))
        return jax.tree.map(jnp.asarray, state)


def _abstract(a: Any) -> Any:
    """How to read one array: placed like `a` where `a` was placed on purpose, else on the host.

    Orbax would commit every array to its device, and a program compiled for arrays that nobody
    placed is another program to JAX: going on would compile again.
    """
    if isinstance(a, jax.Array) and a.committed:
        return jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding)
    return np.empty(a.shape, a.dtype)
