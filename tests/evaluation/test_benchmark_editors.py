"""Methods in a benchmark: what they are given, and what they are refused."""

import dataclasses

import benchmark_folders as data
import numpy as np
import pytest

from imagic_jax.backbones import registry
from imagic_jax.backbones.generate import Sampling
from imagic_jax.editors.contracts import Cost, Method, no_fit
from imagic_jax.editors.imagic import EmbeddingConfig
from imagic_jax.errors import UserError
from imagic_jax.evaluation import benchmark_editors, published
from imagic_jax.jobs import method_work, pictures
from imagic_jax.jobs.method_work import MethodWork
from imagic_jax.jobs.settings import EditSettings
from imagic_jax.runtime.interrupt import StopFlag


@dataclasses.dataclass(frozen=True)
class Config:
    dose: float = 0.25


class Spy:
    """A method that hands the picture back and keeps what it was given."""

    def __init__(self, **about):
        self.seen = []
        self.method = Method(
            name="spy", title="Spy", paper="", summary="", config=Config, knob="dose",
            strengths=(0.25,), fit=no_fit, render=self.render, cost=lambda *_: Cost(0, 1), **about,
        )  # fmt: skip

    def render(self, cascade, params, inputs, fit, config, sampling, strengths, seeds):
        self.seen.append(inputs)
        picture = np.asarray(inputs.image)[0]
        return np.stack([[picture + a + 0.1 * s for s in seeds] for a in strengths])


@pytest.fixture
def settings():
    sampling = Sampling(steps=(2, 2, 2), guidance=(None,) * 3, batch=2)
    embedding = EmbeddingConfig(steps=1, learning_rate=0.1, batch=1)
    how = {"embedding": embedding, "tuning": (), "sampling": sampling}
    return EditSettings(**how, etas=(0.0,), seeds=(3, 4))


def work_of(spy, settings):
    return MethodWork(method=spy.method, config=Config(), settings=settings, strengths=(0.25, 0.5))


@pytest.fixture
def opened(tiny_model):
    return registry.open_model(str(tiny_model))


def install(monkeypatch, **about):
    spy = Spy(**about)
    first = lambda cascade, *_: {f"draw {cascade.stages[0].name}": None}  # noqa: E731
    monkeypatch.setattr(method_work, "drawing_programs", first)  # nothing is compiled beside
    monkeypatch.setattr(method_work, "enlarge", lambda c, p, i, base, *_, **__: base)
    return spy


def test_a_method_is_given_what_it_needs_and_takes(opened, settings, monkeypatch, tmp_path):
    """A mask only to those that cannot do without: it tells where the edit belongs."""
    spy = install(monkeypatch, needs=frozenset({"mask"}), takes=frozenset({"source text"}))
    items = published.load("piebench", data.write_piebench(tmp_path / "pie"), tmp_path).items
    assert benchmark_editors.extras(work_of(spy, settings), items) == ["source text", "mask"]
    source = pictures.load_source(items[1].image, opened.cascade.size)
    with benchmark_editors.open_editor(work_of(spy, settings), opened, items, StopFlag()) as editor:
        drawn = editor.edit(items[1], source, tmp_path)
    assert [v.folder for v in editor.variants] == [
        "dose0.25-seed3", "dose0.25-seed4", "dose0.5-seed3", "dose0.5-seed4",
    ]  # fmt: skip
    assert drawn.shape == (4, 64, 64, 3)
    np.testing.assert_allclose(drawn[1] - drawn[0], 0.1, atol=1e-6)
    np.testing.assert_allclose(drawn[2] - drawn[0], 0.25, atol=1e-6)
    inputs, _ = spy.seen
    half = np.zeros((64, 64))
    half[32:] = 1  # the annotation's lower half; no border is added
    np.testing.assert_array_equal(inputs.mask[0, :, :, 0], half)
    encoded = [
        opened.cascade.text.encode(opened.load_text(), [t])[0].states
        for t in ("a red dog in the snow", "a blue dog in the snow", "")
    ]
    given = (inputs.source, inputs.target, inputs.null)
    for ours, theirs in zip(given, encoded, strict=True):
        np.testing.assert_array_equal(ours[0].states, theirs)


def test_what_a_method_only_could_use_of_a_mask_is_not_given(
    opened, settings, monkeypatch, tmp_path
):
    spy = install(monkeypatch, takes=frozenset({"mask"}))
    items = published.load("piebench", data.write_piebench(tmp_path / "pie"), tmp_path).items
    assert benchmark_editors.extras(work_of(spy, settings), items) == []
    source = pictures.load_source(items[0].image, opened.cascade.size)
    with benchmark_editors.open_editor(work_of(spy, settings), opened, items, StopFlag()) as editor:
        editor.edit(items[0], source, tmp_path)
    assert (spy.seen[0].mask, spy.seen[0].source) == (None, None)


@pytest.mark.parametrize("need", ["source text", "mask", "concepts"])
def test_what_a_benchmark_cannot_give_is_said(settings, monkeypatch, tmp_path, need):
    spy = install(monkeypatch, needs=frozenset({need, "attention"}))
    items = published.load("tedbench", data.write_tedbench(tmp_path / "ted"), tmp_path).items
    with pytest.raises(UserError, match=f"spy needs a {need}, which 7 of 7 items do not give"):
        benchmark_editors.extras(work_of(spy, settings), items)


def test_a_method_that_refuses_the_model_says_why(opened, settings, monkeypatch, tmp_path):
    spy = install(monkeypatch, refuses=lambda cascade: "it has no attention")
    items = published.load("tedbench", data.write_tedbench(tmp_path / "ted"), tmp_path).items
    with (
        pytest.raises(UserError, match=r"spy cannot work on .*: it has no attention"),
        benchmark_editors.open_editor(work_of(spy, settings), opened, items, StopFlag()),
    ):
        pass


def test_settings_that_decide_are_the_methods_own(opened, settings, monkeypatch):
    work = work_of(install(monkeypatch), settings)
    decided = benchmark_editors.decides(work, opened.cascade)
    assert decided["dose"] == (0.25, 0.5)
    assert decided["seeds"] == (3, 4)
    assert "embedding" not in decided
