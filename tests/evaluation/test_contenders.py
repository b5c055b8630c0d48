"""What the benchmark gives to each method, and with how many strengths it draws it."""

import numpy as np
import pytest

from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors.imagic import EmbeddingConfig, TuningConfig
from imagic_jax.editors.methods import METHODS
from imagic_jax.errors import UserError
from imagic_jax.evaluation import contenders
from imagic_jax.evaluation.items import draw
from imagic_jax.jobs.compare import spread
from imagic_jax.jobs.settings import EditSettings


@pytest.fixture(scope="module")
def item():
    return next(i for i in (draw("validation", "iid", "hat", k) for k in range(20)) if i)


@pytest.fixture(scope="module")
def settings(tiny_loaded):
    count = len(tiny_loaded.cascade.stages)
    return EditSettings(
        embedding=EmbeddingConfig(steps=1, learning_rate=0.01),
        tuning=(TuningConfig(steps=1, learning_rate=1e-3),) * 2 + (None,) * (count - 2),
        sampling=Sampling(steps=(2,) * count, guidance=(2.0,) + (None,) * (count - 1), batch=2),
        etas=(0.0, 1.0),
        seeds=(0,),
        seed=0,
    )


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_given_all_that_it_uses_and_a_mask_only_if_it_must(tiny_loaded, item, name):
    method = METHODS[name]
    inputs = contenders._inputs(method, tiny_loaded, item)
    there = {
        "source text": inputs.source is not None,
        "mask": inputs.mask is not None,
        "concepts": bool(inputs.concepts),
        "words": inputs.words is not None,
    }
    assert there["mask"] == ("mask" in method.needs)
    assert there["words"] == ("words" in method.needs)
    for need in ("source text", "concepts"):
        assert there[need] == (need in method.needs | method.takes)
    assert contenders.given_to(name) == tuple(n for n in there if n != "words" and there[n])


def test_what_is_made_for_the_tables_is_given_nothing():
    assert contenders.given_to("imagic") == contenders.given_to("copy") == ()
    assert contenders.given_to("ddib") == ("source text",)


def test_the_mask_is_where_an_ideal_edit_differs(tiny_loaded, item):
    size = tiny_loaded.cascade.size
    mask = np.asarray(contenders._edit_mask(item, size))[0, :, :, 0]
    source, ideals = item.pictures(size)
    changed = np.abs(ideals - source).max(axis=(0, -1)) > 0.1
    assert mask[changed].mean() > 0.95
    assert mask.mean() < 0.6


def test_fewer_strengths_are_spread_and_end_at_the_strongest(tiny_loaded, settings):
    names = ["sdedit", "prompt_to_prompt", "imagic", "copy"]
    few = contenders.contenders(names, tiny_loaded, settings, 5)
    assert [len(c.strengths) for c in few] == [5, 5, 5, 1]
    whole = contenders.contenders(names, tiny_loaded, settings)
    for one, all_ in zip(few, whole, strict=True):
        assert one.strengths[-1] == all_.strengths[-1]
        assert set(one.strengths) <= set(all_.strengths)
    assert spread(tuple(map(float, range(11))), 5) == (2, 4, 6, 8, 10)
    assert spread((1.0, 2.0), 5) == (1.0, 2.0)


def test_a_method_without_its_clip_model_is_refused(tiny_loaded, settings):
    with pytest.raises(UserError, match="needs a CLIP model"):
        contenders.contenders(["blended"], tiny_loaded, settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ledits_pp", "prompt_to_prompt", "ddib"])
def test_a_method_draws_a_picture_for_each_strength_and_seed(tiny_loaded, settings, item, name):
    (one,) = contenders.contenders([name], tiny_loaded, settings, 2)
    outcome = one.run(item, (0, 1), one.strengths)
    assert outcome.pictures.shape == (2, 2, 64, 64, 3)
    assert np.isfinite(outcome.pictures).all()
    assert outcome.cost.render_evaluations > 0
