"""Choosing what is trained: split and merge lose nothing, and gradients flow through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones import adapters
from imagic_jax.backbones.adapters import TrainSpec

PARAMS = {
    "down": {"conv": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}},
    "up": {"conv": {"kernel": jnp.full((2, 2), 3.0)}},
}


def test_everything_by_default():
    trainable, frozen = adapters.split(PARAMS, TrainSpec())
    assert set(trainable) == {"down/conv/kernel", "down/conv/bias", "up/conv/kernel"}
    merged = adapters.merge(frozen, trainable)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)


def test_a_pattern_chooses_by_path():
    trainable, frozen = adapters.split(PARAMS, TrainSpec(r"conv/kernel$"))
    assert set(trainable) == {"down/conv/kernel", "up/conv/kernel"}
    doubled = adapters.merge(frozen, {k: 2 * v for k, v in trainable.items()})
    np.testing.assert_array_equal(doubled["up"]["conv"]["kernel"], jnp.full((2, 2), 6.0))
    np.testing.assert_array_equal(doubled["down"]["conv"]["bias"], PARAMS["down"]["conv"]["bias"])


def test_gradients_reach_the_chosen_values_only():
    trainable, frozen = adapters.split(PARAMS, TrainSpec("up/"))

    def loss(trainable):
        p = adapters.merge(frozen, trainable)
        return (p["down"]["conv"]["kernel"] @ p["up"]["conv"]["kernel"]).sum()

    grads = jax.grad(loss)(trainable)
    assert set(grads) == {"up/conv/kernel"}
    np.testing.assert_array_equal(grads["up/conv/kernel"], jnp.full((2, 2), 2.0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="matches no parameter"):
        adapters.split(PARAMS, TrainSpec("attention"))
    with pytest.raises(ValueError, match="no regular expression"):
        adapters.split(PARAMS, TrainSpec("("))
    with pytest.raises(ValueError, match="does not fit this model"):
        adapters.merge(PARAMS, {"up/conv/kernel": jnp.zeros(3)})
    with pytest.raises(ValueError, match="does not fit this model"):
        adapters.merge(PARAMS, {"up/other": jnp.zeros(3)})
