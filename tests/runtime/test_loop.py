"""Chunked loops: the same steps whatever the chunks, one program, NaN found at its step."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.runtime import loop
from imagic_jax.runtime.compilation import counted
from imagic_jax.runtime.loop import LoopState


@dataclasses.dataclass(frozen=True)
class Walk:
    """A random walk whose loss is its position; NaN from step `bad` on."""

    bad: int = 10**9

    def __call__(self, state, data, index):
        step = jax.random.normal(jax.random.fold_in(data, index), state.shape)
        loss = jnp.where(index >= self.bad, jnp.nan, jnp.sum(state))
        return state + step, loss


def start():
    return LoopState(0, jnp.zeros(3))


def test_stopping_and_going_on_makes_the_same_bits():
    key = jax.random.key(0)
    whole = loop.run(Walk(), start(), key, 100)
    part = loop.run(Walk(), start(), key, 37)
    assert part.step == 37
    rest = loop.run(Walk(), part, key, 100)
    np.testing.assert_array_equal(whole.value, rest.value)


def test_losses_arrive_once_each_in_order():
    chunks = []
    loop.run(Walk(), start(), jax.random.key(1), 60, on_chunk=chunks.append)
    position, expected = jnp.zeros(3), []
    for i in range(60):
        expected.append(float(position.sum()))
        position = position + jax.random.normal(jax.random.fold_in(jax.random.key(1), i), (3,))
    np.testing.assert_allclose(np.concatenate([c.losses for c in chunks]), expected, atol=1e-5)
    assert [c.state.step for c in chunks] == list(np.cumsum([len(c.losses) for c in chunks]))
    assert chunks[-1].state.step == chunks[-1].total == 60


def test_chunks_of_every_length_are_one_program():
    loop.run(Walk(), start(), jax.random.key(0), 3)
    with counted() as compiled:
        loop.run(Walk(), start(), jax.random.key(5), 701)
    assert compiled.programs == 0


@pytest.mark.parametrize("bad", [0, 1, 17])
def test_a_loss_that_is_no_number_stops_at_its_step(bad):
    seen = []
    with pytest.raises(loop.NonFiniteLoss, match=f"step {bad}") as caught:
        loop.run(Walk(bad), start(), jax.random.key(0), 60, on_chunk=seen.append)
    assert caught.value.step == bad
    assert np.isfinite(caught.value.last_finite) == (bad > 0)
    assert all(np.isfinite(c.losses).all() for c in seen)


def test_a_finished_loop_does_nothing():
    state = LoopState(5, jnp.ones(3))
    assert loop.run(Walk(), state, jax.random.key(0), 5).step == 5
