"""SEGA and LEDITS: what the concepts' mask keeps, what falls back to what, and how concepts mix."""

import analytic
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import Sampling
from imagic_jax.diffusion.inversion import row
from imagic_jax.diffusion.schedule import grid
from imagic_jax.editors import ddpm_inversion, ledits, sdedit, sega
from imagic_jax.editors import semantic_guidance as semantic
from imagic_jax.editors.contracts import Concept, Inputs
from imagic_jax.errors import UserError
from imagic_jax.runtime.compilation import counted

IMAGE = jax.random.uniform(jax.random.key(5), (1, 4, 4, 3), minval=-1.0)
TARGET, NULL = (analytic.cond(0.3),), (analytic.cond(0.0),)
KEY = jax.random.key(0)
NONE = semantic.Momentum(jnp.float32(0), jnp.float32(0))


def concept(mean=0.8, **numbers):
    return Concept(analytic.cond(mean), **{"threshold": 0.5, "warmup": 0, **numbers})


def inputs(*concepts, target=TARGET):
    return Inputs(IMAGE, target, NULL, concepts=concepts)


def render(module, given, strength=0.8, guidance=3.0, steps=25, seeds=(0,), **config):
    cascade, config = analytic.cascade(bend=0.1), module.Config(**config)
    sampling = Sampling(steps=(steps,), guidance=(guidance,), batch=2)
    fit = module.METHOD.fit(cascade, analytic.PARAMS, given, config, sampling, KEY)
    args = (given, fit, config, sampling, (strength,), seeds)
    return module.render(cascade, analytic.PARAMS, *args)[0]


def gathered(*concepts):
    """All concepts as one, as the compiled programs see it."""
    return jax.tree.map(jnp.asarray, semantic.numbers(concepts))


def mixed(g, *concepts, step=0, nu=0.0, momentum=NONE, partial="mean"):
    nu = jnp.full(g.shape[1:], nu)
    return semantic.combine(g, gathered(*concepts), jnp.int32(step), nu, momentum, partial)


@pytest.mark.parametrize("threshold", [0.5, 0.9, 0.95])
def test_the_mask_keeps_the_loudest_share_of_every_channel(threshold):
    g = jax.random.normal(KEY, (2, 3, 64, 64, 4))
    kept = semantic.loudest(g, jnp.full(2, threshold, jnp.float32))
    counts = np.count_nonzero(np.asarray(kept), axis=(2, 3))
    np.testing.assert_allclose(counts, (1 - threshold) * 64 * 64, atol=1)
    least = np.abs(np.where(kept == 0, np.inf, kept)).min(axis=(2, 3))
    most_dropped = np.abs(np.where(kept == 0, g, 0)).max(axis=(2, 3))
    assert np.all(least >= most_dropped)
    np.testing.assert_array_equal(kept[kept != 0], g[kept != 0])
    np.testing.assert_array_equal(semantic.loudest(g, jnp.zeros(2)), g)


def test_directions_turn_with_the_sign_and_grow_with_the_scale():
    e0, e = jax.random.normal(KEY, (1, 8, 8, 3)), jax.random.normal(KEY, (3, 1, 8, 8, 3)) * 2
    numbers = gathered(concept(scale=5), concept(scale=5, sign=-1), concept(scale=10))
    e = jnp.broadcast_to(e[:1], e.shape)
    g = semantic.loudest(semantic.directions(e0, e, numbers), numbers.threshold)
    np.testing.assert_array_equal(g[1], -g[0])
    np.testing.assert_allclose(g[2], 2 * g[0], rtol=1e-6)


def test_concepts_mix_as_the_authors_mix_them():
    a, b = jnp.full((1, 2, 2, 1), 1.0), jnp.full((1, 2, 2, 1), 10.0)
    g = jnp.stack([a, b])
    momentum = semantic.Momentum(jnp.float32(0.5), jnp.float32(0.4))
    early, late = concept(warmup=0, weight=2), concept(warmup=5)
    value = lambda *args, **kwargs: tuple(float(x.mean()) for x in mixed(g, *args, **kwargs))  # noqa: E731
    # all awake: 2 * 1 + 1 * 10 + 0.5 nu, and nu moves towards it
    assert value(early, late, step=5, nu=4.0, momentum=momentum) == pytest.approx((14.0, 10.0))
    # one awake: its own value alone, weight 1, no momentum; nu moves all the same
    assert value(early, late, step=4, nu=4.0, momentum=momentum) == pytest.approx((1.0, 10.0))
    assert value(early, late, step=4, nu=4.0, momentum=momentum, partial="sum") == pytest.approx(
        (4.0, 0.4 * 4 + 0.6 * 4)
    )
    assert value(late, late, step=0) == pytest.approx((0.0, 11.0))  # nobody is awake
    assert value(early, concept(cooldown=3), step=3)[0] == pytest.approx(2.0)
    assert value(early, concept(weight=-1), step=3)[0] == pytest.approx(2.0)
    assert value(concept(weight=0), late, step=0)[0] == 0.0  # and no 0 / 0
    np.testing.assert_array_equal(
        mixed(g, early, late, step=9)[0], mixed(g[::-1], late, early, step=9)[0]
    )


@pytest.mark.parametrize("silent", ["scale 0", "the empty text", "before its warm-up"])
def test_a_silent_concept_is_plain_guidance(silent):
    quiet = {
        "scale 0": concept(scale=0.0),
        "the empty text": concept(mean=0.0),
        "before its warm-up": concept(warmup=1000),
    }[silent]
    plain = render(sega, inputs(concept(scale=0.0)), momentum_scale=0.0)
    drawn = render(sega, inputs(quiet), momentum_scale=0.0)
    np.testing.assert_allclose(drawn, plain, atol=1e-6)
    np.testing.assert_allclose(drawn, render(sdedit, inputs(quiet)), atol=1e-5)


def test_one_unmasked_concept_alone_is_guidance_towards_it():
    alone = concept(mean=0.3, scale=3.0, threshold=0.0)
    drawn = render(sega, inputs(alone), target=False, momentum_scale=0.0)
    plain = render(sega, inputs(concept(scale=0.0)), momentum_scale=0.0)
    np.testing.assert_allclose(drawn, plain, atol=1e-5)


def test_without_concepts_ledits_is_ddpm_inversion_to_the_bit():
    drawn = render(ledits, inputs())
    np.testing.assert_array_equal(drawn, render(ddpm_inversion, inputs()))
    loud = concept(scale=20.0)
    np.testing.assert_array_equal(drawn, render(ledits, inputs(loud), mode="target"))
    assert np.abs(drawn - render(ledits, inputs(loud))).max() > 0.1


def test_silent_concepts_alone_give_the_picture_back():
    drawn = render(ledits, inputs(concept(scale=0.0), concept(-0.5, scale=0.0)), mode="concepts")
    np.testing.assert_allclose(drawn, IMAGE, atol=2e-6)


def test_a_concept_moves_the_picture_by_its_scale_and_back_by_its_sign():
    def moved(**numbers):
        drawn = render(ledits, inputs(concept(threshold=0.0, **numbers)), mode="concepts")
        return float((drawn - np.asarray(IMAGE)).mean())

    up = [moved(scale=s) for s in (0.0, 1.0, 3.0, 7.0)]
    assert np.all(np.diff(up) > 0.01)
    assert moved(scale=3.0, sign=-1.0) < -0.1


def test_the_first_step_is_linear_in_the_scale():
    def denoised(scale):
        cascade, first = analytic.cascade(bend=0.1), jnp.int32(0)
        numbers = gathered(concept(scale=scale))
        denoise = semantic.semantic_denoiser(
            cascade.stages[0], {}, NULL[0], TARGET[0], numbers, jnp.float32(3), NONE, first,
            "mean", 1,
        )  # fmt: skip
        level = row(grid(cascade.stages[0].schedule, 10), 0)
        return denoise(IMAGE, level, first, jnp.zeros_like(IMAGE))[0].eps

    none, one, three = (denoised(s) for s in (0.0, 1.0, 3.0))
    np.testing.assert_allclose(three - none, 3 * (one - none), atol=1e-5)
    assert np.abs(one - none).max() > 0.05


def test_other_numbers_and_texts_compile_nothing():
    given = [concept(scale=5), concept(0.1, sign=-1.0)]
    for module in (sega, ledits):
        render(module, inputs(*given))
        others = [concept(-0.7, scale=2.5, threshold=0.8, warmup=3, cooldown=9), concept(weight=2)]
        with counted() as seen:
            render(module, inputs(*others), 0.4, 7.0, seeds=(5,), momentum_scale=0.1)
        assert seen.programs == 0


def test_rows_carry_masks_and_pooled_texts():
    cond = Cond(jnp.zeros((1, 2, 3)), jnp.ones((1, 2)), jnp.zeros((1, 5)))
    numbers = semantic.numbers([Concept(cond), Concept(cond._replace(states=cond.states + 1))])
    rows = semantic.rows(cond, None, numbers, 2)
    assert rows.states[:, 0, 0].tolist() == [0, 0, 0, 0, 1, 1]
    assert rows.mask.shape == (6, 2)
    assert rows.pooled.shape == (6, 5)


def test_what_is_missing_is_said():
    with pytest.raises(UserError, match="needs a concept"):
        render(sega, inputs())
    with pytest.raises(UserError, match="needs a concept"):
        render(ledits, inputs(), mode="concepts")
