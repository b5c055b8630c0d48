"""Training: the averaged weights, the rate, the data, and runs that go on to the same bits."""

import os
import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import NamedSharding, PartitionSpec

from imagic_jax.flatland import captions, splits
from imagic_jax.flatland import factors as fx
from imagic_jax.models import T5Config, T5Encoder
from imagic_jax.runtime import loop
from imagic_jax.runtime.mesh import make_meshes
from imagic_jax.runtime.progress import StageProgress
from imagic_jax.training import data
from imagic_jax.training.tasks import TextTask, cross_entropy, zero_residuals
from imagic_jax.training.trainer import Recipe, TrainData, TrainStep, init_state
from imagic_jax.weights import load_part
from imagic_jax.weights.tokenizer import Tokenizer, save_word_level

TEXT_CONFIG = """
from ml_collections import ConfigDict


def get_config():
    config = ConfigDict()
    config.name = "tiny_text"
    config.kind = "text"
    config.model = "tiny"
    config.base = "base"
    config.seed = 0
    config.max_length = {length}
    config.captions = 16
    config.text = ConfigDict({text!r})
    config.data = ConfigDict({{"batch": 12}})
    config.recipe = ConfigDict(
        {{
            "steps": 12,
            "learning_rate": 1e-2,
            "warmup": 2,
            "decay": 0.3,
            "clip": 1.0,
            "ema": 0.9,
        }}
    )
    config.save_every = 300.0
    config.sheet_every = 600.0
    return config
"""


@pytest.fixture
def train(tmp_path, monkeypatch, capsys):
    """Runs `imagic train` on a tiny text encoder: (exit code, standard error)."""
    from imagic_jax.cli.main import main

    config = tmp_path / "tiny_text.py"
    config.write_text(TEXT_CONFIG.format(length=tiny.LENGTH, text=tiny.text_config()))
    monkeypatch.chdir(tmp_path)

    def run(name, *flags):
        code = main(
            ["train", f"--config={config}", f"--out=run_{name}", f"--model=model_{name}", *flags]
        )
        return code, capsys.readouterr().err

    return run


def weights(folder):
    _, params = load_part(folder / "base" / "text_encoder")
    return jax.tree.leaves(params)


def test_an_interrupted_run_goes_on_to_the_same_bits(train, tmp_path, monkeypatch):
    assert train("whole")[0] == 0
    real = StageProgress.update

    def stop_early(self, done, *arguments):
        real(self, done, *arguments)
        if done == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(StageProgress, "update", stop_early)
        code, err = train("parts")
    assert code == 2
    assert "stopped at step 5 of 12" in err
    code, err = train("parts")
    assert code == 0
    assert "going on from step 5" in err
    for a, b in zip(
        weights(tmp_path / "model_whole"), weights(tmp_path / "model_parts"), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_one_run_folder_holds_one_run(train):
    assert train("one")[0] == 0
    code, err = train("one", "--config.recipe.learning_rate=0.5")
    assert code == 2
    assert "another training run" in err


def test_devices_that_divide_batches_train_the_weights_of_one(train, tmp_path):
    assert train("alone")[0] == 0
    assert train("divided", "--mesh=sample:4")[0] == 0
    for a, b in zip(
        weights(tmp_path / "model_alone"), weights(tmp_path / "model_divided"), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=2e-3)  # f16 on disk, and sums in another order


@pytest.mark.parametrize(
    ("mesh", "said"),
    [
        ("image:2", "write --mesh=sample:N"),
        ("sample:5", "do not divide a batch of 12"),
        ("sample:12", "there are 8"),
        ("samples:2", "no axis"),
    ],
)
def test_devices_that_cannot_divide_batches_are_refused(train, tmp_path, mesh, said):
    code, err = train("refused", f"--mesh={mesh}")
    assert code == 2
    assert said in err
    assert not (tmp_path / "run_refused").exists()


def test_the_devices_divide_the_batch_and_add_up_its_gradients(table):
    text = T5Encoder(T5Config.from_dict(tiny.text_config()))
    task = TextTask(text=text, batch=12, sizes=data.NAMED_SIZES)
    mesh = make_meshes({"image": 1, "sample": 4, "fsdp": 1})[0]
    recipe = Recipe(steps=2)
    state = init_state(task, recipe, jax.random.key(0), table)
    given = TrainData(table, {}, jax.random.key(1))
    everywhere = NamedSharding(mesh, PartitionSpec())
    shapes = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=everywhere), (state, given)
    )
    program = loop.lower(TrainStep(task, recipe, mesh.abstract_mesh), *shapes).compile()
    assert "all-reduce" in program.as_text()
    assert "f32[3,24,32]" in program.as_text()  # states of three captions on each device


def test_the_rate_rises_stays_and_falls_to_zero():
    recipe = Recipe(steps=100, learning_rate=2.0, warmup=10, decay=0.5)
    rates = np.array([float(recipe.rate(jnp.int32(i))) for i in range(101)])
    np.testing.assert_allclose(rates[:10], 2.0 * np.arange(1, 11) / 10, rtol=1e-6)
    np.testing.assert_allclose(rates[10:50], 2.0, rtol=1e-6)
    np.testing.assert_allclose(rates[50:], 2.0 * (100 - np.arange(50, 101)) / 50, atol=1e-6)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    save_word_level(folder, captions.vocabulary(), 24)
    return data.caption_table(Tokenizer.load(folder), 32, 0)


def test_captions_are_of_training_combinations_and_name_what_they_say(table):
    for cls in range(len(fx.CLASSES)):
        for row in range(32):
            f = fx.Factors(*(int(a[cls, row]) for a in table.factors))
            assert f.cls == cls
            assert splits.part_of(f) == "train"


def test_dropped_captions_are_the_empty_text(table):
    kept = data.draw_captions(table, jax.random.key(0), 12, 0.0)
    dropped = data.draw_captions(table, jax.random.key(0), 12, 1.0)
    assert (np.asarray(dropped.ids) == np.asarray(table.null_ids)).all()
    assert (np.asarray(dropped.named) == -1).all()
    assert not (np.asarray(kept.ids) == np.asarray(table.null_ids)).all(axis=1).any()
    np.testing.assert_array_equal(np.asarray(kept.factors.cls)[:, 0], np.arange(6))


def test_cross_entropy_of_known_logits():
    logits = jnp.array([[0.0, 0.0], [0.0, jnp.log(3.0)]])
    assert float(cross_entropy(logits, jnp.array([0, 1]))) == pytest.approx(
        (np.log(2) + np.log(4 / 3)) / 2, abs=1e-6
    )


def test_residual_branches_start_silent():
    params = {
        "resnets_0": {"conv1": {"kernel": jnp.ones(2)}, "conv2": {"kernel": jnp.ones(2)}},
        "attn": {"to_out_0": {"kernel": jnp.ones(2), "bias": jnp.ones(2)}},
        "conv_out": {"kernel": jnp.ones(2)},
    }
    out = zero_residuals(params)
    assert float(out["resnets_0"]["conv1"]["kernel"].sum()) == 2
    assert float(out["resnets_0"]["conv2"]["kernel"].sum()) == 0
    assert float(out["attn"]["to_out_0"]["kernel"].sum()) == 0
    assert float(out["attn"]["to_out_0"]["bias"].sum()) == 2
    assert float(out["conv_out"]["kernel"].sum()) == 0
