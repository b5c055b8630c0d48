"""Every method on a pixel cascade and on a latent model, by its `METHOD` alone."""

import inspect

import jax
import numpy as np
import pytest
from editing import inputs_for, sampling_for

from imagic_jax.editors import words
from imagic_jax.editors.contracts import Concept, enlarge
from imagic_jax.editors.methods import METHODS
from imagic_jax.runtime.compilation import counted

#: These have tests of their own on both models.
ELSEWHERE = {"prompt_to_prompt", "plug_and_play", "guide_and_rescale", "blended_latent"}
CASES = [
    pytest.param(
        model,
        method,
        id=f"{method.name}-{model}",
        marks=[pytest.mark.slow] * (model == "sd_loaded" or method.name in ELSEWHERE),
    )
    for method in METHODS.values()
    if "clip" not in method.needs
    for model in ("tiny_loaded", "sd_loaded")
]


@pytest.fixture(autouse=True)
def quick_compilation():
    """Compiles in half the time; what is asked here does not depend on it."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


def given(loaded, method, source, target, concept):
    """Inputs with what the method needs or takes."""
    cascade, wants = loaded.cascade, method.needs | method.takes
    more = {}
    if "concepts" in wants:
        cond = cascade.text.encode(loaded.params["text"], [concept])[0]
        tokens = cascade.text.own_tokens(concept)
        more["concepts"] = (Concept(cond, scale=3.0, warmup=1, tokens=tokens),)
    if "words" in wants:
        more["words"] = words.align(cascade, source, target)
    if "mask" in wants:
        more["mask"] = (
            np.arange(cascade.size * cascade.size).reshape(1, cascade.size, cascade.size, 1) % 2
        )
    inputs = inputs_for(loaded, source, target, **more)
    return inputs if "source text" in wants else inputs._replace(source=None)


def edited(loaded, method, inputs, strengths, seeds, key, sampling):
    assert method.refuses(loaded.cascade) is None
    config = method.config()
    fit = method.fit(loaded.cascade, loaded.params, inputs, config, sampling, key)
    args = (inputs, fit, config, sampling, strengths, seeds)
    return fit, method.render(loaded.cascade, loaded.params, *args)


@pytest.mark.parametrize(("model", "method"), CASES, indirect=["model"])
def test_a_method_edits_and_a_second_picture_compiles_nothing(model, method):
    sampling, size = sampling_for(model), model.cascade.stages[0].size
    one = given(model, method, "dog now", "red dog", "red")
    few = (method.strengths[0], method.strengths[-1])
    fit, drawn = edited(model, method, one, few, (0, 1, 2), jax.random.key(0), sampling)
    assert drawn.shape == (2, 3, size, size, 3)
    assert drawn.dtype == np.float32
    assert np.isfinite(drawn).all()
    assert np.abs(drawn).max() <= 1
    assert np.abs(drawn[0] - drawn[1]).max() > 1e-3  # the strength counts
    assert all(isinstance(a, jax.Array | np.ndarray) for a in jax.tree.leaves(fit))
    other = given(model, method, "red now", "dog", "dog")
    other = other._replace(image=-other.image)
    with counted() as seen:
        _, again = edited(model, method, other, few[::-1], (7,), jax.random.key(1), sampling)
    assert seen.programs == 0
    assert np.abs(again[::-1, 0] - drawn[:, 0]).max() > 1e-3


@pytest.mark.parametrize("method", METHODS.values(), ids=lambda m: m.name)
def test_a_method_says_what_it_is(method, tiny_loaded):
    config, sampling = method.config(), sampling_for(tiny_loaded, 10)
    assert hasattr(config, method.knob)
    assert len(method.strengths) == 11
    assert list(method.strengths) == sorted(set(method.strengths)) or method.strengths[0] > 0
    for strength in method.strengths[1:]:
        cost = method.cost(config, sampling, strength)
        assert cost.fit >= 0
        assert cost.render > 0
    assert "arXiv" in method.paper
    assert (inspect.getmodule(method.render).__doc__ or "").strip()


def test_the_stages_behind_draw_an_inverted_edit_larger(tiny_loaded):
    method, sampling = METHODS["ddpm_inversion"], sampling_for(tiny_loaded)
    inputs = given(tiny_loaded, method, "dog now", "red dog", "")
    _, drawn = edited(tiny_loaded, method, inputs, (0.5,), (0, 1), jax.random.key(0), sampling)
    large = enlarge(tiny_loaded.cascade, tiny_loaded.params, inputs, drawn, (0, 1), sampling)
    assert large.shape == (1, 2, 64, 64, 3)
    assert np.abs(large[0, 0] - large[0, 1]).max() > 0  # the larger stages draw from the seed
