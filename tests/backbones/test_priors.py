"""Pictures that a model carries to keep its knowledge: on disk, in a cascade, in a fit."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from safetensors.numpy import save_file

from imagic_jax.backbones import priors, registry
from imagic_jax.backbones.contracts import Cond, Prior
from imagic_jax.cli.main import main
from imagic_jax.editors import imagic
from imagic_jax.editors.imagic import TuningConfig
from imagic_jax.weights import WeightsError

PRIOR = Prior(
    jax.random.uniform(jax.random.key(0), (6, 8, 8, 12), minval=-1.0),
    Cond(jax.random.normal(jax.random.key(1), (6, tiny.LENGTH, tiny.WIDTH))),
)


@pytest.fixture
def carrying(tiny_model, tmp_path):
    """A copy of the tiny cascade whose base carries a prior."""
    folder = tmp_path / "carrying"
    shutil.copytree(tiny_model, folder)
    priors.save_prior(folder / "base", PRIOR)
    return folder


def test_a_prior_is_kept_in_half_precision(tmp_path):
    priors.save_prior(tmp_path, PRIOR)
    assert (tmp_path / "prior" / "prior.safetensors").stat().st_mode & 0o777 == 0o644
    found = priors.load_prior(tmp_path / "prior")
    assert found.cond.mask is found.cond.pooled is None
    for a, b in zip(*map(jax.tree.leaves, (found, PRIOR)), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, np.float16(b))
    shapes = priors.prior_shapes(tmp_path / "prior")
    assert jax.tree.map(lambda a: a.shape, shapes) == jax.tree.map(lambda a: a.shape, PRIOR)


def test_a_base_that_carries_one_is_another_model(carrying, tiny_model):
    opened = registry.open_model(carrying)
    base, *rest = opened.load_stages()
    assert isinstance(base["prior"], Prior)
    assert all("prior" not in p for p in rest)
    assert jax.tree.structure(opened.stage_shapes()) == jax.tree.structure((base, *rest))
    assert opened.fingerprint() != registry.open_model(tiny_model).fingerprint()


@pytest.mark.parametrize(
    "arrays",
    [
        {"x0": np.zeros((2, 4, 4, 3), np.float16)},
        {"x0": np.zeros((2, 4, 4, 3)), "states": np.zeros((3, 4, 5))},
        {"x0": np.zeros((2, 4, 4, 3)), "states": np.zeros((2, 4, 5)), "names": np.zeros(2)},
        {"x0": np.zeros((0, 4, 4, 3)), "states": np.zeros((0, 4, 5))},
        {"x0": np.zeros((2, 4, 3)), "states": np.zeros((2, 4, 5))},
        {"x0": np.zeros(()), "states": np.zeros(())},
    ],
)
def test_what_is_no_prior_is_refused(arrays, tmp_path):
    (tmp_path / "prior").mkdir()
    save_file(arrays, tmp_path / "prior" / "prior.safetensors")
    for read in (priors.load_prior, priors.prior_shapes):
        with pytest.raises(WeightsError, match=r"prior\.safetensors: no prior"):
            read(tmp_path / "prior")
    (tmp_path / "prior" / "prior.safetensors").write_bytes(b"cut off")
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        priors.load_prior(tmp_path / "prior")


def test_a_stage_drifts_by_what_was_changed(carrying):
    loaded = registry.load_cascade(carrying)
    stage, params = loaded.cascade.stages[0], loaded.params["stages"][0]
    drift = jax.jit(stage.drift)
    key = jax.random.key(2)
    assert float(drift(params, params, *PRIOR, key)) == 0.0
    moved = params | {"unet": jax.tree.map(lambda a: a + 0.01, params["unet"])}
    everywhere, in_noise = (float(drift(moved, params, *PRIOR, key, a)) for a in (0.0, 0.9))
    assert everywhere > 0.0
    assert in_noise > 0.0
    assert everywhere != in_noise


def test_the_prior_holds_a_tuned_base_back(carrying):
    loaded = registry.load_cascade(carrying)
    stage, params = loaded.cascade.stages[0], loaded.params["stages"][0]
    cond, null = (Cond(PRIOR.cond.states[i : i + 1]) for i in (0, 1))
    image = jax.random.uniform(jax.random.key(3), (1, 16, 16, 3), minval=-1.0)
    picture = imagic.picture_for(stage, params, image)

    def drift_after(weight):
        config = TuningConfig(steps=30, learning_rate=3e-3, batch=2)
        config = TuningConfig(**vars(config) | {"prior_batch": 6, "prior_weight": weight})
        state = imagic.tune(stage, params, picture, cond, null, config, jax.random.key(4))
        tuned = imagic.adapters.merge(params, state.value["trainable"])
        return float(stage.drift(tuned, params, *PRIOR, jax.random.key(5)))

    assert drift_after(10.0) < 0.5 * drift_after(0.0)


EDIT = ["edit", "--config=flatland_imagen", "--text=a dog", "--eta=0,1"]
EDIT += ["--config.tuning.base.prior_batch=2", "--config.tuning.base.steps=1"]
EDIT += ["--config.tuning.sr1.steps=1", "--config.embedding.steps=1"]
EDIT += [f"--config.sampling.{stage}.steps=1" for stage in ("base", "sr1", "sr2")]


def test_an_edit_asks_for_the_prior_by_flag_and_a_copy_keeps_it(carrying, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([*EDIT, f"--model={carrying}", "--out=out"]) == 0
    assert main(["convert", "--fit=out/fit", "--to=copy"]) == 0
    kept, given = (tmp_path / m / "base" / "prior" / priors.FILE for m in ("copy", "carrying"))
    assert kept.read_bytes() == given.read_bytes()


def test_a_prior_that_does_not_fit_is_told_before_anything_is_written(
    tiny_model, carrying, tmp_path, monkeypatch, capsys
):
    def told(model):
        assert main([*EDIT, f"--model={model}", "--out=out"]) == 2
        assert not (tmp_path / "out").exists()
        return capsys.readouterr().err

    monkeypatch.chdir(tmp_path)
    assert "config.tuning.base: prior_batch is above 0" in told(tiny_model)
    for x0, states in (
        (PRIOR.x0[..., :3], PRIOR.cond.states),
        (PRIOR.x0, PRIOR.cond.states[..., 1:]),
    ):
        priors.save_prior(carrying / "base", Prior(x0, Cond(states)))
        assert "config.tuning.base: the prior is of another model" in told(carrying)
    (carrying / "base" / "prior" / priors.FILE).write_bytes(b"cut off")
    assert "not a whole safetensors file" in told(carrying)


@pytest.mark.slow
def test_a_prior_goes_over_the_devices_of_a_mesh(carrying, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [*EDIT, f"--model={carrying}", "--mesh=sample:2"]
    assert main([*command, "--out=out"]) == 0
