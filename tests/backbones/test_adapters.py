"""Choosing what is trained: split and merge lose nothing, and gradients flow through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones import adapters
from imagic_jax.backbones.adapters import TrainSpec

PARAMS = {
    "unet": {
        "down": {"conv": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}},
        "up": {"conv": {"kernel": jnp.full((2, 2), 3.0)}},
    },
    "vae": {"conv": {"kernel": jnp.ones((2, 2))}},
}
ATTENTION = {
    "unet": {
        "attn": {
            "to_q": {"kernel": jnp.ones((6, 4)), "bias": jnp.zeros(4)},
            "to_out_0": {"kernel": jnp.ones((4, 6), jnp.bfloat16)},
            "norm": {"scale": jnp.ones(6)},
        },
        "conv": {"kernel": jnp.ones((3, 3, 6, 6))},
    },
    "vae": {"attn": {"to_q": {"kernel": jnp.ones((6, 6))}}},
}


def test_the_whole_unet_by_default_and_never_the_autoencoder():
    trainable, frozen = adapters.split(PARAMS, TrainSpec())
    assert set(trainable) == {"unet/down/conv/kernel", "unet/down/conv/bias", "unet/up/conv/kernel"}
    merged = adapters.merge(frozen, trainable)
    assert jax.tree.structure(merged) == jax.tree.structure(PARAMS)


def test_a_pattern_chooses_by_path():
    trainable, frozen = adapters.split(PARAMS, TrainSpec(r"conv/kernel$"))
    assert set(trainable) == {"unet/down/conv/kernel", "unet/up/conv/kernel"}
    doubled = adapters.merge(frozen, {k: 2 * v for k, v in trainable.items()})
    np.testing.assert_array_equal(doubled["unet"]["up"]["conv"]["kernel"], jnp.full((2, 2), 6.0))
    np.testing.assert_array_equal(
        doubled["unet"]["down"]["conv"]["bias"], PARAMS["unet"]["down"]["conv"]["bias"]
    )


def test_gradients_reach_the_chosen_values_only():
    trainable, frozen = adapters.split(PARAMS, TrainSpec("unet/up/"))

    def loss(trainable):
        p = adapters.merge(frozen, trainable)
        return (p["unet"]["down"]["conv"]["kernel"] @ p["unet"]["up"]["conv"]["kernel"]).sum()

    grads = jax.grad(loss)(trainable)
    assert set(grads) == {"unet/up/conv/kernel"}
    np.testing.assert_array_equal(grads["unet/up/conv/kernel"], jnp.full((2, 2), 2.0))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="matches no parameter"):
        adapters.split(PARAMS, TrainSpec("attention"))
    with pytest.raises(ValueError, match="no regular expression"):
        adapters.split(PARAMS, TrainSpec("("))
    with pytest.raises(ValueError, match="does not fit this model"):
        adapters.merge(PARAMS, {"unet/up/conv/kernel": jnp.zeros(3)})
    with pytest.raises(ValueError, match="does not fit this model"):
        adapters.merge(PARAMS, {"unet/up/other": jnp.zeros(3)})


def test_lora_changes_attention_projections_and_starts_as_nothing():
    trainable, frozen = adapters.split(ATTENTION, TrainSpec(rank=2), jax.random.key(0))
    assert {p: a.shape for p, a in trainable.items()} == {
        "unet/attn/to_q/lora_a": (6, 2),
        "unet/attn/to_q/lora_b": (2, 4),
        "unet/attn/to_out_0/lora_a": (4, 2),
        "unet/attn/to_out_0/lora_b": (2, 6),
    }
    merged = adapters.merge(frozen, trainable)
    assert jax.tree.structure(merged) == jax.tree.structure(ATTENTION)
    jax.tree.map(np.testing.assert_array_equal, merged, ATTENTION)
    assert adapters.is_lora(trainable)
    assert not adapters.is_lora(adapters.split(PARAMS, TrainSpec())[0])


def test_lora_adds_a_times_b():
    trainable, frozen = adapters.split(ATTENTION, TrainSpec(rank=2), jax.random.key(0))
    b = jnp.arange(8.0).reshape(2, 4)
    merged = adapters.merge(frozen, {**trainable, "unet/attn/to_q/lora_b": b})
    expected = 1.0 + np.asarray(trainable["unet/attn/to_q/lora_a"]) @ np.asarray(b)
    np.testing.assert_allclose(merged["unet"]["attn"]["to_q"]["kernel"], expected, rtol=1e-6)


def test_small_lora_survives_a_kernel_kept_in_16_bits():
    trainable, frozen = adapters.split(ATTENTION, TrainSpec(rank=1), jax.random.key(0))
    a, b = "unet/attn/to_out_0/lora_a", "unet/attn/to_out_0/lora_b"
    small = {**trainable, a: jnp.ones((4, 1)), b: jnp.full((1, 6), 1e-4)}
    merged = adapters.merge(frozen, small)
    np.testing.assert_allclose(merged["unet"]["attn"]["to_out_0"]["kernel"], 1.0001, rtol=1e-6)


def test_lora_is_as_narrow_as_its_kernel_and_drawn_from_its_key():
    wide, _ = adapters.split(ATTENTION, TrainSpec("to_q", rank=16), jax.random.key(0))
    assert wide["unet/attn/to_q/lora_a"].shape == (6, 4)
    again, _ = adapters.split(ATTENTION, TrainSpec("to_q", rank=16), jax.random.key(0))
    other, _ = adapters.split(ATTENTION, TrainSpec("to_q", rank=16), jax.random.key(1))
    np.testing.assert_array_equal(*(t["unet/attn/to_q/lora_a"] for t in (wide, again)))
    assert not np.array_equal(*(t["unet/attn/to_q/lora_a"] for t in (wide, other)))


def test_lora_needs_linear_kernels_and_both_halves():
    with pytest.raises(ValueError, match="matches no linear kernel"):
        adapters.split(ATTENTION, TrainSpec("conv", rank=2))
    trainable, frozen = adapters.split(ATTENTION, TrainSpec("to_q", rank=2))
    a, b = trainable
    for half in (a, b):
        with pytest.raises(ValueError, match="does not fit this model"):
            adapters.merge(frozen, {half: trainable[half]})
