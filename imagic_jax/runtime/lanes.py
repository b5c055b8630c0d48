"""Many loops at once, one per picture: a lane for each place of the mesh's `image` axis.

What differs between lanes (states, pictures, texts, keys) is stacked along a first axis that lies
on `image`; what they have in common (the model) is there once per lane's devices. One program,
`jax.shard_map` over that axis, runs all lanes; each sees its own arrays without the first axis, at
the shapes of a single run, and no lane waits for a value of another. So a picture has the same bits
whatever lane it is in and whatever is beside it. Within a lane, `sample` and `fsdp` are left to the
compiler, which divides what the arguments' shardings and `mesh.divide_draws` say.

Each lane has its own step and number of steps: lanes may start at different steps, and one that
is empty, done or diverged does nothing.
"""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from imagic_jax.runtime import loop
from imagic_jax.runtime.loop import MAX_CHUNK, NonFiniteLoss, Pace, Step
from imagic_jax.runtime.mesh import lanes_of, weight_spec

Tree = Any  # a pytree of arrays


def each(function: Callable[[Tree, Tree], Tree], mesh: Mesh, common: Tree, own: Tree) -> Tree:
    """`function(common, own of one lane)` for every lane, inside a program; results are stacked."""

    def lane(common: Tree, own: Tree) -> Tree:
        out = function(common, jax.tree.map(lambda a: a[0], own))
        return jax.tree.map(lambda a: a[None], out)

    shared = any(mesh.shape[axis] > 1 for axis in ("sample", "fsdp"))
    manual = {"image"} if shared else set(mesh.axis_names)
    return jax.shard_map(
        lane,
        mesh=mesh,
        in_specs=(P(), P("image")),
        out_specs=P("image"),
        axis_names=manual,
        check_vma=False,
    )(common, own)


def share(tree: Tree, mesh: Mesh, divide: bool = True) -> Tree:
    """Puts what lanes have in common on the mesh, divided over `fsdp` where it can be."""
    return jax.tree.map(lambda a: jax.device_put(a, _common(a, mesh, divide)), tree)


def share_shapes(tree: Tree, mesh: Mesh, divide: bool = True) -> Tree:
    """The shapes and shardings of `share`."""
    return jax.tree.map(lambda a: _shape(a.shape, a.dtype, _common(a, mesh, divide)), tree)


def stack(trees: Sequence[Tree], mesh: Mesh, divide: bool = False) -> Tree:
    """One tree per lane to one stacked tree on the mesh. `divide`: over `fsdp`, too."""

    def join(*rows: Any) -> jax.Array:
        if jnp.issubdtype(rows[0].dtype, jax.dtypes.prng_key):
            data = join(*(jax.random.key_data(r) for r in rows))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(rows[0]))
        whole = np.stack([np.asarray(r) for r in rows])
        return jax.device_put(whole, _own(whole.shape[1:], mesh, divide))

    return jax.tree.map(join, *trees)


def stack_shapes(tree: Tree, mesh: Mesh, divide: bool = False) -> Tree:
    """The shapes and shardings of `stack`, from those of one lane."""
    lanes = lanes_of(mesh)
    return jax.tree.map(
        lambda a: _shape((lanes, *a.shape), a.dtype, _own(a.shape, mesh, divide)), tree
    )


def take(stacked: Tree, lane: int) -> Tree:
    """A copy of one lane's arrays on the host."""

    def row(a: jax.Array) -> np.ndarray:
        piece = next(s.data for s in a.addressable_shards if _first(s.index, a) == lane)
        if piece.shape[1:] != a.shape[1:]:  # divided within the lane
            return np.array(np.asarray(a)[lane], copy=True)
        return np.array(np.asarray(piece)[0], copy=True)

    return jax.tree.map(row, stacked)


def _first(index: tuple[slice, ...], a: jax.Array) -> int:
    return index[0].indices(a.shape[0])[0]


def _own(shape: Sequence[int], mesh: Mesh, divide: bool) -> NamedSharding:
    inner = weight_spec(shape, mesh.shape["fsdp"]) if divide else ()
    return NamedSharding(mesh, P("image", *inner))


def _common(a: Any, mesh: Mesh, divide: bool) -> NamedSharding:
    return NamedSharding(mesh, weight_spec(a.shape, mesh.shape["fsdp"]) if divide else P())


def _shape(shape: Sequence[int], dtype: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(tuple(shape), dtype, sharding=sharding)


class Lanes(NamedTuple):
    """Where the loops of all lanes stand."""

    steps: tuple[int, ...]  # done, per lane
    value: Tree  # stacked states


class LanesChunk(NamedTuple):
    """What a callback is told after each chunk."""

    state: Lanes
    total: int
    losses: list[np.ndarray]  # of this chunk's steps, per lane
    seconds: float
    failed: Mapping[int, NonFiniteLoss]  # lanes that diverged; their states are no good


@functools.partial(jax.jit, static_argnames=("start", "mesh"))
def first_states(start: Callable[[Tree], Tree], mesh: Mesh, common: Tree, own: Tree) -> Tree:
    """`start(data)` of every lane: the states before the first step, made where they stay."""
    return each(lambda c, o: _divided(start({**c, **o}), mesh), mesh, common, own)


@functools.partial(jax.jit, static_argnames=("step", "mesh"), donate_argnames="state")
def _run_lanes(step, mesh, state, common, own, start, count):
    def lane(common, own):
        state, data, start, count = own
        state, losses = loop.several(
            functools.partial(_divided_step, step, mesh), state, {**common, **data}, start, count
        )
        return _divided(state, mesh), losses

    return each(lane, mesh, common, (state, own, start, count))


def _divided_step(step: Step, mesh: Mesh, state: Tree, data: Tree, index: jax.Array):
    state, loss = step(state, data, index)
    return _divided(state, mesh), loss


def _divided(state: Tree, mesh: Mesh) -> Tree:
    """Keeps one lane's state divided over `fsdp`, as `stack` places it."""
    parts = mesh.shape["fsdp"]
    if parts == 1:
        return state
    return jax.tree.map(
        lambda a: jax.lax.with_sharding_constraint(a, weight_spec(a.shape, parts)), state
    )


def lower(
    step: Step, mesh: Mesh, state: Tree, common: Mapping[str, Any], own: Mapping[str, Any]
) -> Any:
    """The program that `run` calls, lowered but not compiled; from `stack_shapes` of states (with
    `divide`) and of `own`, and `share_shapes` of what is common."""
    count = stack_shapes(jax.ShapeDtypeStruct((), jnp.int32), mesh)
    return _run_lanes.lower(step, mesh, state, common, own, count, count)


def run(
    step: Step,
    mesh: Mesh,
    state: Lanes,
    common: Mapping[str, Any],
    own: Mapping[str, Any],
    total: int,
    *,
    busy: Sequence[bool] | None = None,
    longest: int = MAX_CHUNK,
    chunk_seconds: float = 2.0,
    on_chunk: Callable[[LanesChunk], None] | None = None,
) -> tuple[Lanes, dict[int, NonFiniteLoss]]:
    """Runs every lane up to `total` steps; as `loop.run`, for many.

    Args:
        step: called as `step(state, {**common, **own}, index)` in each lane.
        mesh: the lanes' devices.
        state: where each lane starts; its arrays are donated.
        common: what the lanes have in common, placed by `share`.
        own: what each has for itself, placed by `stack`.
        total: steps of the whole loop.
        busy: lanes that work (default: all).
        longest: most steps of a chunk.
        chunk_seconds, on_chunk: see `loop.run`.

    Returns:
        The last states, and the lanes whose loss became NaN or infinite: they stopped there.
    """
    done, value = list(state.steps), state.value
    working = list(busy) if busy is not None else [True] * len(done)
    last = [float("nan")] * len(done)
    failed: dict[int, NonFiniteLoss] = {}
    pace = Pace(chunk_seconds)
    while True:
        most = min(pace.steps, longest, MAX_CHUNK)
        counts = [min(most, total - d) if w else 0 for d, w in zip(done, working, strict=True)]
        if not any(counts):
            return Lanes(tuple(done), value), failed
        began = time.perf_counter()
        starts, numbers = (_numbers(v, mesh) for v in (done, counts))
        value, buffer = _run_lanes(step, mesh, value, common, own, starts, numbers)
        buffer = np.asarray(buffer)
        seconds = time.perf_counter() - began
        losses = [row[:count] for row, count in zip(buffer, counts, strict=True)]
        for lane, row in enumerate(losses):
            if (bad := loop.first_not_finite(row, done[lane], last[lane])) is not None:
                failed[lane], working[lane], losses[lane] = bad, False, row[:0]
            elif row.size:
                last[lane] = float(row[-1])
                done[lane] += row.size
        if on_chunk is not None:
            on_chunk(LanesChunk(Lanes(tuple(done), value), total, losses, seconds, failed))
        pace.took(max(counts), seconds)


def _numbers(values: Sequence[int], mesh: Mesh) -> jax.Array:
    return jax.device_put(np.asarray(values, np.int32), NamedSharding(mesh, P("image")))
