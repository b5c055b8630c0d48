"""Optimisation loops on the device: one compiled chunk of steps, one host callback per chunk.

A step is a frozen dataclass (its fields are static) called as `step(state, data, index)`; it
draws its randomness from `fold_in(key, index)`, so a run that stops after any step and goes on
later makes the same bits. The number of steps in a chunk is traced: one program serves the first,
the middle and the short last chunk. There is no host round trip inside a chunk.
"""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

State = Any  # a pytree
Data = Any  # a pytree
#: (state, data, index) -> (state, loss)
Step = Callable[[State, Data, jax.Array], tuple[State, jax.Array]]

#: Most steps in one chunk: the length of the loss buffer.
MAX_CHUNK = 512


class LoopState(NamedTuple):
    """Where a loop stands: what to save, and what to hand back in to go on."""

    step: int  # steps done
    value: State


class Chunk(NamedTuple):
    """What a callback is told after each chunk of steps."""

    state: LoopState
    total: int
    losses: np.ndarray  # of this chunk's steps
    seconds: float  # wall time of this chunk, compilation included


class NonFiniteLoss(FloatingPointError):
    """A loss became NaN or infinite; `step` is the first such step (counted from 0)."""

    def __init__(self, step: int, last_finite: float):
        self.step, self.last_finite = step, last_finite
        super().__init__(
            f"the loss is no number at step {step} (last finite loss {last_finite:.4g});"
            " lower the learning rate of this stage"
        )


def first_not_finite(losses: np.ndarray, start: int, last_finite: float) -> NonFiniteLoss | None:
    """What is wrong with a chunk's losses, of steps from `start` on; None where nothing is."""
    bad = np.flatnonzero(~np.isfinite(losses))
    if not bad.size:
        return None
    at = int(bad[0])
    return NonFiniteLoss(start + at, float(losses[at - 1]) if at else last_finite)


def several(
    step: Step, state: State, data: Data, start: jax.Array, count: jax.Array
) -> tuple[State, jax.Array]:
    """`count` steps from `start` on, as part of a program: (state, losses padded to MAX_CHUNK)."""
    losses = jnp.zeros((MAX_CHUNK,), jnp.float32)

    def body(i, carry):
        state, losses = carry
        state, loss = step(state, data, start + i)
        return state, losses.at[i].set(loss.astype(jnp.float32))

    return jax.lax.fori_loop(0, count, body, (state, losses))


_run_chunk = jax.jit(several, static_argnums=0, donate_argnums=1)


class Pace:
    """How many steps the next chunk shall have, so that it takes about `chunk_seconds`."""

    def __init__(self, chunk_seconds: float):
        self.steps, self._aim, self._first = 1, chunk_seconds, True

    def took(self, steps: int, seconds: float) -> None:
        """Learns from a chunk."""
        # The first chunk is one step and mostly compilation: it says nothing about speed.
        fitting = max(1, round(steps * self._aim / max(seconds, 1e-3)))
        self.steps = 4 if self._first else min(fitting, 4 * steps)
        self._first = False


def lower(step: Step, value: State, data: Data) -> Any:
    """The program that `run` calls for such a step, state and data, lowered but not compiled.

    `value` and `data` may be arrays or `jax.ShapeDtypeStruct`s, whose shardings are kept: they say
    what the program is compiled for.
    """
    value, data = jax.tree.map(_shape, (value, data))
    count = jax.ShapeDtypeStruct((), jnp.int32)
    return _run_chunk.lower(step, value, data, count, count)


def _shape(a: Any) -> jax.ShapeDtypeStruct:
    placed = a.sharding if isinstance(a, jax.ShapeDtypeStruct) else None
    return jax.ShapeDtypeStruct(jnp.shape(a), a.dtype, sharding=placed)


def run(
    step: Step,
    state: LoopState,
    data: Data,
    total: int,
    *,
    chunk_seconds: float = 2.0,
    on_chunk: Callable[[Chunk], None] | None = None,
) -> LoopState:
    """Runs steps `state.step`..`total - 1` and returns the last state.

    Args:
        step: hashable; compiled once per value and per shapes of state and data.
        state: where to start. Its arrays are donated: do not use them again.
        data: everything else that the step reads; traced, so new pictures compile nothing.
        total: number of steps of the whole loop.
        chunk_seconds: aimed length of a chunk; the number of its steps is adapted after each.
        on_chunk: called after each chunk with a `Chunk`. Its `state` is donated to the next
            chunk, so the callback copies what it wants to keep. It may raise to stop the run.

    Raises:
        NonFiniteLoss: when a loss is NaN or infinite; the callback does not see that chunk.
    """
    done, value = state
    pace = Pace(chunk_seconds)
    last_finite = float("nan")
    while done < total:
        count = min(pace.steps, total - done, MAX_CHUNK)
        began = time.perf_counter()
        value, buffer = _run_chunk(step, value, data, jnp.int32(done), jnp.int32(count))
        losses = np.asarray(buffer)[:count]
        seconds = time.perf_counter() - began
        if (bad := first_not_finite(losses, done, last_finite)) is not None:
            raise bad
        last_finite = float(losses[-1])
        done += count
        if on_chunk is not None:
            on_chunk(Chunk(LoopState(done, value), total, losses, seconds))
        pace.took(count, seconds)
    return LoopState(done, value)
