"""The loops of Imagic on a model whose answers are known: x0 = states @ w."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from imagic_jax.backbones.contracts import Cond, Prior, Stage
from imagic_jax.diffusion.schedule import Schedule
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import EmbeddingConfig, Fit, Picture, StageFit, TuningConfig


@dataclasses.dataclass(frozen=True)
class Linear(Stage):
    """A stage that predicts the picture from the text by one matrix; noise scales its loss."""

    name, size, low_res_size = "linear", 1, None
    schedule = Schedule.from_config({"beta_schedule": "squaredcos_cap_v2"})

    def loss(self, params, x0, cond, low_res, key, batch):
        weight = jax.random.uniform(key, (batch,), x0.dtype).mean()
        made = (cond.states.mean(axis=1) @ params["unet"]["w"]).astype(jnp.float32)
        return weight * jnp.mean(jnp.square(made - x0))

    def drift(self, params, before, x0, cond, key, above=0.0):
        del key
        answers = (cond.states.mean(axis=1) @ p["unet"]["w"] for p in (params, before))
        now, then = answers
        return jnp.mean(jnp.square(now - jax.lax.stop_gradient(then)) * jnp.abs(x0)) * (1 + above)


W = jax.random.normal(jax.random.key(0), (4, 3))
PARAMS = {"unet": {"w": W}}
PICTURE = Picture(jnp.array([[0.3, -0.5, 0.9]]), None)
COND = Cond(jax.random.normal(jax.random.key(1), (1, 5, 4)), pooled=jnp.ones((1, 2)))
NULL = Cond(jax.random.normal(jax.random.key(2), (1, 5, 4)), pooled=jnp.zeros((1, 2)))
KEY = jax.random.key(7)


def by_hand(loss_of, value, rate, steps):
    """The same optimisation as a plain optax loop."""
    optimizer = optax.adam(rate)
    state = optimizer.init(value)
    for i in range(steps):
        grads = jax.grad(loss_of)(value, jax.random.fold_in(KEY, i))
        updates, state = optimizer.update(grads, state)
        value = optax.apply_updates(value, updates)
    return value


def test_embedding_is_adam_on_the_states_alone():
    config = EmbeddingConfig(steps=25, learning_rate=0.05, batch=2)
    state = imagic.embed(Linear(), PARAMS, PICTURE, COND, config, KEY)

    def loss_of(states, key):
        return Linear().loss(PARAMS, PICTURE.x0, COND._replace(states=states), None, key, 2)

    expected = by_hand(loss_of, COND.states, 0.05, 25)
    moved = imagic.optimised(COND, state)
    np.testing.assert_allclose(moved.states, expected, atol=1e-6)
    np.testing.assert_array_equal(moved.pooled, COND.pooled)
    assert state.step == 25


def test_tuning_is_adam_on_the_chosen_parameters():
    config = TuningConfig(steps=25, learning_rate=0.05, batch=1)
    state = imagic.tune(Linear(), PARAMS, PICTURE, COND, NULL, config, KEY)

    def loss_of(w, key):
        return Linear().loss({"unet": {"w": w}}, PICTURE.x0, COND, None, key, 1)

    expected = by_hand(loss_of, W, 0.05, 25)
    np.testing.assert_allclose(state.value["trainable"]["unet/w"], expected, atol=1e-6)


def test_enough_steps_reach_the_picture():
    config = EmbeddingConfig(steps=400, learning_rate=0.05, batch=1)
    state = imagic.embed(Linear(), PARAMS, PICTURE, COND, config, KEY)
    made = imagic.optimised(COND, state).states.mean(axis=1) @ W
    np.testing.assert_allclose(made, PICTURE.x0, atol=2e-3)


@pytest.mark.parametrize("part", ["embed", "tune"])
def test_stopping_and_going_on_makes_the_same_bits(part):
    def run(steps, state=None):
        if part == "embed":
            config = EmbeddingConfig(steps=steps, learning_rate=0.05)
            return imagic.embed(Linear(), PARAMS, PICTURE, COND, config, KEY, state=state)
        config = TuningConfig(steps=steps, learning_rate=0.05)
        return imagic.tune(Linear(), PARAMS, PICTURE, COND, NULL, config, KEY, state=state)

    whole, resumed = run(30), run(30, run(11))
    for a, b in zip(jax.tree.leaves(whole.value), jax.tree.leaves(resumed.value), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_low_rate_moves_weights_and_half_precision_would_lose_it():
    config = TuningConfig(steps=1, learning_rate=5e-7)
    state = imagic.tune(Linear(), PARAMS, PICTURE, COND, NULL, config, KEY)
    trained = state.value["trainable"]["unet/w"]
    moved = np.abs(np.asarray(trained) - np.asarray(W))
    np.testing.assert_allclose(moved, 5e-7, rtol=0.2)
    assert (trained.astype(jnp.bfloat16) == W.astype(jnp.bfloat16)).all()


def test_dropped_draws_see_the_empty_text():
    def tuned(cond, dropout):
        config = TuningConfig(steps=6, learning_rate=0.05, batch=4, dropout=dropout)
        state = imagic.tune(Linear(), PARAMS, PICTURE, cond, NULL, config, KEY)
        return np.asarray(state.value["trainable"]["unet/w"])

    np.testing.assert_array_equal(tuned(COND, 1.0), tuned(NULL, 0.0))
    some = tuned(COND, 0.5)
    assert not np.array_equal(some, tuned(COND, 0.0))
    assert not np.array_equal(some, tuned(COND, 1.0))
    mixed = imagic.choose(jnp.array([True, False]), NULL, COND)
    np.testing.assert_array_equal(mixed.states, jnp.concatenate([NULL.states, COND.states]))
    np.testing.assert_array_equal(mixed.pooled, jnp.array([[0.0, 0.0], [1.0, 1.0]]))


OTHER = Cond(jax.random.normal(jax.random.key(3), (1, 5, 4)), pooled=jnp.ones((1, 2)))
CARRIES = PARAMS | {"prior": Prior(jnp.array([[1.0, 2.0, 0.5]]), OTHER)}


def test_the_prior_is_a_second_loss_of_its_weight():
    config = TuningConfig(steps=25, learning_rate=0.05, prior_batch=2, prior_weight=0.3)
    config = dataclasses.replace(config, prior_from=0.25)
    state = imagic.tune(Linear(), CARRIES, PICTURE, COND, NULL, config, KEY)

    def loss_of(w, key):
        params = {"unet": {"w": w}}
        picture = Linear().loss(params, PICTURE.x0, COND, None, key, 1)
        return picture + 0.3 * Linear().drift(params, PARAMS, *CARRIES["prior"], key, 0.25)

    expected = by_hand(loss_of, W, 0.05, 25)
    np.testing.assert_allclose(state.value["trainable"]["unet/w"], expected, atol=1e-6)


def test_answers_on_the_prior_stay_while_the_picture_is_learnt():
    """The two texts are different directions of w, so both can be had: and are, with the prior."""

    def off(prior_batch):
        config = TuningConfig(steps=600, learning_rate=0.02, prior_batch=prior_batch)
        config = dataclasses.replace(config, prior_weight=1.0)
        state = imagic.tune(Linear(), CARRIES, PICTURE, COND, NULL, config, KEY)
        w = state.value["trainable"]["unet/w"]
        learnt = jnp.abs(COND.states.mean(axis=1) @ w - PICTURE.x0).max()
        return float(learnt), float(jnp.abs(OTHER.states.mean(axis=1) @ (w - W)).max())

    (learnt, kept), (without, lost) = off(1), off(0)
    assert max(learnt, without) < 5e-3
    assert kept < 0.1 * lost


def test_a_prior_that_a_stage_does_not_carry_is_named():
    config = TuningConfig(steps=1, prior_batch=2)
    with pytest.raises(ValueError, match="this stage carries no prior"):
        imagic.tune(Linear(), PARAMS, PICTURE, COND, NULL, config, KEY)


def test_half_precision_masters_are_refused():
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), PARAMS)
    config = TuningConfig(steps=1, learning_rate=5e-7)
    with pytest.raises(ValueError, match=r"must be kept in float32, because .*5e-07 round away"):
        imagic.tune(Linear(), half, PICTURE, COND, NULL, config, KEY)


def test_lora_tunes_beside_half_precision_masters():
    half = {"unet": {"to_q": {"kernel": W.astype(jnp.bfloat16)}}}
    config = TuningConfig(steps=0, rank=2)
    trainable = imagic.start_tuning(half, config, KEY).value["trainable"]
    assert {p: (a.shape, a.dtype) for p, a in trainable.items()} == {
        "unet/to_q/lora_a": ((4, 2), jnp.float32),
        "unet/to_q/lora_b": ((2, 3), jnp.float32),
    }


def test_parts_of_a_fit_draw_from_different_keys():
    keys = {
        tuple(np.asarray(jax.random.key_data(imagic.stage_key(KEY, part, i))).tolist())
        for part in ("embed", "tune")
        for i in range(3)
    }
    assert len(keys) == 6


def test_interpolation_ends_at_both_texts():
    target = Cond(jnp.ones((1, 2, 3)), mask=jnp.ones((1, 2)), pooled=jnp.full((1, 4), 7.0))
    opt = target._replace(states=-jnp.ones((1, 2, 3)), pooled=jnp.zeros((1, 4)))
    fit = StageFit(target, opt, None)
    cond = imagic.interpolate(fit, np.array([0.0, 1.0, 0.25, 1.5]))
    np.testing.assert_allclose(cond.states[:, 0, 0], [-1.0, 1.0, -0.5, 2.0])
    np.testing.assert_array_equal(cond.pooled, jnp.full((4, 4), 7.0))
    assert cond.mask.shape == (4, 2)
    untouched = imagic.interpolate(StageFit(target, None, None), np.array([0.3]))
    np.testing.assert_allclose(untouched.states, target.states, atol=1e-6)


def test_a_fit_is_a_pytree():
    fit = Fit((StageFit(COND, None, {"unet/w": W}),), (COND,))
    doubled = jax.tree.map(lambda a: 2 * a, fit)
    np.testing.assert_array_equal(doubled.stages[0].delta["unet/w"], 2 * W)
