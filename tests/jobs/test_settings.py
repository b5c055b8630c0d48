"""Settings are checked where they are read, and refused by the name the user typed."""

import pytest
import tiny
from ml_collections import ConfigDict

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.errors import UserError
from imagic_jax.jobs import presets, settings

TINY = Cascade("tiny", None, tuple(tiny.make_stage(r) for r in tiny.STAGES), (True, True, False))


@pytest.fixture
def config():
    return presets.load_config(presets.find_preset("flatland_imagen"))


def test_the_shipped_presets_fit_the_cascade(config):
    read = settings.from_config(config, TINY)
    assert read.tuning[0] is not None
    assert read.tuning[1] is not None
    assert read.tuning[2] is None
    paper = settings.from_config(
        presets.load_config(presets.find_preset("flatland_imagen_paper")), TINY
    )
    assert (paper.embedding.steps, paper.tuning[0].steps, paper.tuning[1].steps) == (
        100,
        1500,
        1500,
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.embedding.update(steps=-1), "config.embedding.steps"),
        (lambda c: c.embedding.update(learning_rate=float("nan")), "finite"),
        (lambda c: c.embedding.update(learning_rate=0.0), "above 0"),
        (lambda c: c.tuning.base.update(batch=0), r"config\.tuning\.base\.batch"),
        (lambda c: c.tuning.base.update(rank=-1), r"config\.tuning\.base\.rank"),
        (lambda c: c.tuning.base.update(dropout=1.5), r"config\.tuning\.base\.dropout must lie"),
        (lambda c: c.tuning.base.update(prior_batch=-1), r"config\.tuning\.base\.prior_batch"),
        (lambda c: c.tuning.base.update(prior_weight=-0.1), "prior_weight must not be negative"),
        (lambda c: c.tuning.base.update(prior_from=1.0), "prior_from must lie in"),
        (lambda c: c.sampling.base.update(steps=100000), r"config\.sampling\.base\.steps"),
        (lambda c: c.sampling.base.update(guidance=-2.0), "negative"),
        (lambda c: c.sampling.update(sampler="euler"), "ddim, ddpm"),
        (lambda c: c.sampling.update(start=0.0), r"config\.sampling\.start must lie above 0"),
        (lambda c: c.sampling.update(start=1.5), r"config\.sampling\.start must lie above 0"),
        (lambda c: c.sampling.update(start=float("nan")), "finite"),
        (lambda c: c.update(etas=(0.0, float("inf"))), "finite"),
        (lambda c: c.update(seeds=(-1,)), "config.seeds"),
        (lambda c: c.tuning.update(sr9=c.tuning.base), "no stage 'sr9'"),
    ],
)
def test_bad_values_are_refused_by_name(config, change, words):
    with config.unlocked(), config.ignore_type():
        change(config)
    with pytest.raises(UserError, match=words):
        settings.from_config(config, TINY)


@pytest.mark.parametrize(
    "name",
    [
        "embedding",
        "sampling",
        "etas",
        "seeds",
        "seed",
        "embedding.steps",
        "embedding.learning_rate",
        "tuning.base.batch",
        "sampling.batch",
        "sampling.sampler",
        "sampling.sr1",
        "sampling.base.steps",
        "sampling.base.guidance",
    ],
)
def test_a_preset_that_lacks_something_is_refused(config, name):
    *path, last = name.split(".")
    section = config
    for step in path:
        section = section[step]
    with config.unlocked():
        del section[last]
    with pytest.raises(UserError, match=f"lacks config.{name}$"):
        settings.from_config(config, TINY)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"embedding": 3}, r"config\.embedding must hold named settings"),
        ({"tuning": {"base": "resnets"}}, r"config\.tuning\.base must hold named settings"),
        ({"etas": 0.5}, r"config\.etas must list"),
        ({"seeds": ()}, r"config\.seeds must list"),
    ],
)
def test_sections_and_lists_must_be_such(config, change, words):
    with pytest.raises(UserError, match=words):
        settings.from_config(ConfigDict({**config.to_dict(), **change}), TINY)


def test_lists_need_an_entry():
    assert settings.listed("0, 0.5,", "--eta") == ["0", "0.5"]
    with pytest.raises(UserError, match="--eta"):
        settings.listed(" , ", "--eta")


def test_guidance_one_is_none():
    assert settings.guidance_scale(1, "w") is None
    assert settings.guidance_scale(3, "w") == 3.0


def test_unknown_presets_name_the_nearest():
    with pytest.raises(UserError, match="did you mean flatland_imagen"):
        presets.find_preset("flatland_imagin")


def test_a_preset_of_the_users_own_may_be_broken(tmp_path):
    broken = tmp_path / "mine.py"
    broken.write_text("def get_config(:\n")
    with pytest.raises(UserError, match="cannot be run"):
        presets.load_config(broken)
    broken.write_text("x = 1\n")
    with pytest.raises(UserError, match="cannot be run"):
        presets.load_config(broken)
