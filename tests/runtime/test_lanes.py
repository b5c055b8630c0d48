"""Lanes: the bits of a lone loop in every lane, one program, one lane's end is not another's."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.runtime import lanes, loop
from imagic_jax.runtime.compilation import counted
from imagic_jax.runtime.lanes import Lanes
from imagic_jax.runtime.loop import LoopState, NonFiniteLoss
from imagic_jax.runtime.mesh import divide_draws, make_meshes, parse_mesh

WIDTH = 8


@dataclasses.dataclass(frozen=True)
class Fit:
    """Fits w to a lane's `target` through a common matrix, from noisy draws."""

    batch: int = 4

    def __call__(self, state, data, index):
        key = jax.random.fold_in(data["key"], index)
        x = divide_draws(jax.random.normal(key, (self.batch, WIDTH)))

        def loss_of(w):
            out = jnp.tanh(x @ data["matrix"] @ w)
            loss = jnp.mean(jnp.square(out - x @ data["target"]))
            return jnp.where(index >= data["bad"], jnp.nan, loss)

        loss, grads = jax.value_and_grad(loss_of)(state["w"])
        return {"w": state["w"] - 0.1 * grads, "count": state["count"] + 1}, loss


def start(data):
    return {"w": jnp.zeros((WIDTH, WIDTH)) + data["matrix"], "count": jnp.int32(0)}


def own_of(i, bad=10**6):
    return {
        "key": jax.random.key(i),
        "target": np.random.default_rng(i).standard_normal((WIDTH, WIDTH)).astype(np.float32),
        "bad": np.int32(bad),
    }


COMMON = {"matrix": np.random.default_rng(9).standard_normal((WIDTH, WIDTH)).astype(np.float32)}


def run(mesh_text, owns, total=9, steps=None, **kwargs):
    (mesh,) = make_meshes(parse_mesh(mesh_text))
    common, own = lanes.share(COMMON, mesh), lanes.stack(owns, mesh)
    first = Lanes(steps or (0,) * len(owns), lanes.first_states(start, mesh, common, own))
    return lanes.run(Fit(), mesh, first, common, own, total, **kwargs)


def alone(own, total=9):
    data = {**COMMON, **own}
    return loop.run(Fit(), LoopState(0, start(data)), data, total).value


def test_every_lane_has_the_bits_of_a_lone_loop():
    owns = [own_of(i) for i in range(4)]
    state, failed = run("image:4", owns)
    assert state.steps == (9,) * 4
    assert not failed
    for i, own in enumerate(owns):
        (single, _), lane = run("image:1", [own]), lanes.take(state.value, i)
        for other in (lanes.take(single.value, 0), alone(own)):
            for a, b in zip(jax.tree.leaves(lane), jax.tree.leaves(other), strict=True):
                np.testing.assert_array_equal(a, b)


def test_lanes_communicate_nothing():
    (mesh,) = make_meshes(parse_mesh("image:4"))
    shapes = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), own_of(0))
    own, common = lanes.stack_shapes(shapes, mesh), lanes.share_shapes(COMMON, mesh)
    state = jax.eval_shape(start, COMMON)
    text = (
        lanes.lower(Fit(), mesh, lanes.stack_shapes(state, mesh, divide=True), common, own)
        .compile()
        .as_text()
    )
    assert "fusion" in text
    assert not any(f"{word}(" in text for word in ("all-reduce", "all-gather", "all-to-all"))


def test_all_lengths_of_chunks_all_starts_and_busy_lanes_are_one_program():
    owns = [own_of(i) for i in range(4)]
    run("image:4", owns, total=2)
    with counted() as compiled:
        run("image:4", [own_of(i) for i in range(5, 9)], total=40, longest=7)
        run("image:4", owns, total=9, steps=(0, 3, 9, 8), busy=(True, True, True, False))
    assert compiled.programs == 0


def test_lanes_go_on_from_different_steps():
    owns = [own_of(i) for i in range(2)]
    part, _ = run("image:2", owns, total=4)
    (mesh,) = make_meshes(parse_mesh("image:2"))
    common, own = lanes.share(COMMON, mesh), lanes.stack(owns, mesh)
    begun = lanes.first_states(start, mesh, common, own)
    rows = [lanes.take(part.value, 0), lanes.take(begun, 1)]
    mixed = Lanes((4, 0), lanes.stack(rows, mesh, divide=True))
    state, _ = lanes.run(Fit(), mesh, mixed, common, own, 9)
    whole, _ = run("image:2", owns)
    for a, b in zip(jax.tree.leaves(state.value), jax.tree.leaves(whole.value), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_lane_that_diverges_leaves_the_others_alone():
    seen = []
    state, failed = run("image:2", [own_of(0), own_of(1, bad=5)], on_chunk=seen.append)
    assert isinstance(failed[1], NonFiniteLoss)
    assert failed[1].step == 5
    assert state.steps[0] == 9
    assert state.steps[1] <= 5
    np.testing.assert_array_equal(lanes.take(state.value, 0)["w"], alone(own_of(0))["w"])
    assert all(np.isfinite(row).all() for c in seen for row in c.losses)
    assert sum(len(c.losses[0]) for c in seen) == 9


def test_idle_lanes_do_nothing():
    state, _ = run("image:2", [own_of(0), own_of(1)], busy=(False, True))
    assert state.steps == (0, 9)
    np.testing.assert_array_equal(lanes.take(state.value, 0)["w"], COMMON["matrix"])


@pytest.mark.parametrize(
    "mesh", ["sample:4", "fsdp:4", "image:2,sample:2", "image:2,sample:2,fsdp:2"]
)
def test_devices_that_share_a_picture_agree_with_one(mesh):
    count = parse_mesh(mesh)["image"]
    owns = [own_of(i) for i in range(count)]
    state, _ = run(mesh, owns)
    for i, own in enumerate(owns):
        np.testing.assert_allclose(
            lanes.take(state.value, i)["w"], alone(own)["w"], rtol=1e-5, atol=1e-6
        )
    w = state.value["w"]
    parts = parse_mesh(mesh)["fsdp"]
    assert w.addressable_shards[0].data.size == WIDTH * WIDTH // parts
