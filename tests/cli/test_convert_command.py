"""`imagic convert` on fits of the tiny cascade: nothing learnt is lost, nothing is half there."""

import dataclasses
import json
import re
import shutil

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from PIL import Image as pil
from safetensors.numpy import load_file

from imagic_jax.backbones import adapters, registry
from imagic_jax.backbones.adapters import TrainSpec
from imagic_jax.backbones.contracts import Cond
from imagic_jax.editors.imagic import Fit, StageFit
from imagic_jax.jobs import convert, fits

EVERYTHING, CONVS = TrainSpec(), TrainSpec("conv1")
LORA = TrainSpec(rank=3)
TEXT = "a red dog"


def drawn(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def make_fit(opened, specs):
    """A fit as training would leave it, with random numbers in it."""
    stages, null = [], []
    for i, spec in enumerate(specs):
        delta = None
        if spec is not None:
            start, _ = adapters.split(opened.load_stages()[i], spec)
            delta = {p: a + 0.1 * drawn(i, *a.shape) for p, a in start.items()}
        target, opt, empty = (Cond(jnp.asarray(drawn(10 * i + k, 1, 12, 32))) for k in range(3))
        stages.append(StageFit(target, opt if i == 0 else None, delta))
        null.append(empty)
    return Fit(tuple(stages), tuple(null))


@dataclasses.dataclass(frozen=True)
class Saved:
    """A fit on disk, what is in it, and the model that it was made with."""

    folder: object
    fit: Fit
    opened: registry.Opened

    def tuned(self, stage):
        return adapters.merge(self.opened.load_stages()[stage], self.fit.stages[stage].delta)


@pytest.fixture
def save(tmp_path, tiny_model):
    def save(*specs, **changes):
        opened = registry.open_model(tiny_model)
        row = {"steps": 3, "guidance": 2.0}
        about = {
            "text": TEXT,
            "weights": opened.fingerprint(),
            "size": 64,
            "method": "imagic",
            "random_weights": False,
            "config": {
                "model": str(tiny_model),
                "sampling": {"base": row, "sr1": row, "sr2": row},
            },
            **changes,
        }
        fit = make_fit(opened, specs)
        fits.save_fit(tmp_path / "fit", fit, about, pil.new("RGB", (64, 64)))
        return Saved(tmp_path / "fit", fit, opened)

    return save


def assert_equal_bits(tree, other):
    assert jax.tree.structure(tree) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, tree, other)


def test_the_folder_is_the_tuned_model_to_the_bit(imagic, save, tmp_path, tiny_model):
    saved = save(EVERYTHING, CONVS, None)
    code, out, err = imagic("convert", "--fit=fit", "--to=new/model")
    assert code == 0, err
    folder = tmp_path / "new" / "model"
    assert {p.name for p in folder.iterdir()} == {
        "README.md", "base", "cascade.json", "imagic_embeddings.safetensors", "sr1", "sr2",
    }  # fmt: skip
    assert [p.name for p in folder.parent.iterdir()] == ["model"]
    assert "wrote new/model" in out

    before, after = saved.opened, registry.open_model(folder)
    assert after.cascade.stages == before.cascade.stages
    assert after.cascade.tuned == before.cascade.tuned
    assert after.card["text"] == before.card["text"]
    params = after.load()[1]
    assert_equal_bits(params["text"], before.load_text())
    assert_equal_bits(params["stages"][0], saved.tuned(0))
    assert_equal_bits(params["stages"][1], saved.tuned(1))
    for path in (p for p in (tiny_model / "sr2").rglob("*") if p.is_file()):
        assert (folder / path.relative_to(tiny_model)).read_bytes() == path.read_bytes()
    for stage in ("base", "sr1"):
        index = f"{stage}/model_index.json"
        assert (folder / index).read_bytes() == (tiny_model / index).read_bytes()


def test_the_embeddings_are_named_and_equal_to_the_bit(imagic, save, tmp_path):
    fit = save(CONVS, None, None).fit
    assert imagic("convert", "--fit=fit", "--to=o")[0] == 0
    told = load_file(tmp_path / "o" / "imagic_embeddings.safetensors")
    assert set(told) == {
        "base.target", "base.optimised", "base.null",
        "sr1.target", "sr1.null", "sr2.target", "sr2.null",
    }  # fmt: skip
    np.testing.assert_array_equal(told["base.optimised"], fit.stages[0].optimised.states)
    for i, name in enumerate(("base", "sr1", "sr2")):
        np.testing.assert_array_equal(told[f"{name}.target"], fit.stages[i].target.states)
        np.testing.assert_array_equal(told[f"{name}.null"], fit.null[i].states)


def test_pooled_states_are_kept_but_not_twice():
    states, other, pool = (jnp.asarray(drawn(i, 1, 12, 32)) for i in range(3))
    pooled = Cond(states, pooled=pool[:, 0])
    first = StageFit(pooled, pooled._replace(states=other), None)
    told = convert.embeddings(Fit((first,), (pooled,)), ["base"])
    assert set(told) == {
        "base.target", "base.target_pooled", "base.optimised", "base.null", "base.null_pooled",
    }  # fmt: skip
    np.testing.assert_array_equal(told["base.null_pooled"], pooled.pooled)


def test_the_readme_holds_a_program(imagic, save, tmp_path):
    save(CONVS, None, None)
    assert imagic("convert", "--fit=fit", "--to=o")[0] == 0
    page = (tmp_path / "o" / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    compile(program, "README.md", "exec")
    assert TEXT in page
    assert "pixel_shuffle" in program  # this model moves pixels to channels


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_is_the_rounded_weights(imagic, save, tmp_path, name):
    saved = save(CONVS, None, None)
    assert imagic("convert", "--fit=fit", "--to=o", f"--dtype={name}")[0] == 0
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    stored = load_file(tmp_path / "o" / "base" / "unet" / "diffusion_pytorch_model.safetensors")
    assert {a.dtype for a in stored.values()} == {dtype}
    again = registry.load_cascade(tmp_path / "o").params["stages"][0]["unet"]
    rounded = jax.tree.map(
        lambda a: np.asarray(a).astype(dtype).astype(np.float32), saved.tuned(0)["unet"]
    )
    assert_equal_bits(again, rounded)


def test_lora_is_written_alone_under_the_names_of_diffusers(imagic, save, tmp_path):
    saved = save(LORA, LORA, None)
    assert imagic("convert", "--fit=fit", "--to=o")[0] == 0
    files = {p.relative_to(tmp_path / "o").as_posix() for p in (tmp_path / "o").rglob("*.*")}
    assert files == {
        "README.md", "imagic_embeddings.safetensors",
        "base/pytorch_lora_weights.safetensors", "sr1/pytorch_lora_weights.safetensors",
    }  # fmt: skip
    for i, name in enumerate(("base", "sr1")):
        told = load_file(tmp_path / "o" / name / "pytorch_lora_weights.safetensors")
        delta = saved.fit.stages[i].delta
        assert len(told) == len(delta)
        where = "down_blocks.0.attentions.0"
        for layer in ("to_q", "to_k", "to_v", "to_out.0", "add_k_proj", "add_v_proj"):
            path = f"unet/{where}.{layer}".replace(".0", "_0").replace(".", "/")
            a, b = (told[f"unet.{where}.{layer}.lora_{x}.weight"] for x in "AB")
            np.testing.assert_array_equal(a, delta[f"{path}/lora_a"].T)
            np.testing.assert_array_equal(b, delta[f"{path}/lora_b"].T)
            assert a.shape[0] == b.shape[1] == 3
    program = (tmp_path / "o" / "README.md").read_text()
    assert "load_lora_adapter" in program


@pytest.mark.parametrize("specs", [(LORA, LORA, None), (LORA, CONVS, None)])
def test_lora_is_merged_on_request_and_where_another_stage_was_tuned_whole(
    imagic, save, tmp_path, specs
):
    saved = save(*specs)
    merge = ["--merge"] if specs[1] == LORA else []
    assert imagic("convert", "--fit=fit", "--to=o", *merge)[0] == 0
    params = registry.load_cascade(tmp_path / "o").params
    for i in (0, 1):
        assert_equal_bits(params["stages"][i], saved.tuned(i))
    assert not list((tmp_path / "o").rglob("pytorch_lora_weights*"))


def test_overwrite_replaces_a_conversion_and_nothing_else(imagic, save, tmp_path):
    save(LORA, None, None)
    assert imagic("convert", "--fit=fit", "--to=o")[0] == 0
    code, _, err = imagic("convert", "--fit=fit", "--to=o", "--merge")
    assert code == 2
    assert "o is not empty; choose another folder or add --overwrite" in err
    assert imagic("convert", "--fit=fit", "--to=o", "--merge", "--overwrite")[0] == 0
    assert (tmp_path / "o" / "cascade.json").is_file()
    assert not (tmp_path / "o" / "base" / "pytorch_lora_weights.safetensors").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, err = imagic("convert", "--fit=fit", "--to=mine", "--overwrite")
    assert code == 2
    assert "are no conversion, which --overwrite leaves alone" in err
    assert (tmp_path / "mine" / "thesis.txt").is_file()
    (tmp_path / "empty").mkdir()
    assert imagic("convert", "--fit=fit", "--to=empty")[0] == 0


def test_a_fit_of_a_converted_model_does_not_overwrite_it(imagic, save, tmp_path):
    save(CONVS, None, None)
    assert imagic("convert", "--fit=fit", "--to=o")[0] == 0
    shutil.rmtree(tmp_path / "fit")
    opened = registry.open_model(tmp_path / "o")
    row = {"steps": 3, "guidance": 2.0}
    config = {"model": "o", "sampling": {"base": row, "sr1": row, "sr2": row}}
    save(CONVS, None, None, config=config, weights=opened.fingerprint())
    code, _, err = imagic("convert", "--fit=fit", "--to=o", "--overwrite")
    assert code == 2
    assert "holds the fit or its model" in err
    registry.load_cascade(tmp_path / "o")


@pytest.mark.parametrize("earlier", [False, True])
def test_nothing_is_left_half_written(imagic, save, tmp_path, monkeypatch, earlier):
    save(CONVS, None, None)
    if earlier:
        assert imagic("convert", "--fit=fit", "--to=o")[0] == 0

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert, "write_tensors", full)
    code, _, err = imagic("convert", "--fit=fit", "--to=o", "--overwrite")
    assert code == 2
    assert "o cannot be written" in err
    assert "No space left on device" in err
    assert {p.name for p in tmp_path.iterdir()} == {"fit", "o"} if earlier else {"fit"}
    if earlier:
        registry.load_cascade(tmp_path / "o")


def test_bad_input(imagic, save, tmp_path, tiny_model):
    code, _, err = imagic("convert")
    assert (code, "--fit is missing" in err) == (2, True)
    code, _, err = imagic("convert", "--fit=fit")
    assert (code, "--to is missing" in err) == (2, True)
    code, _, err = imagic("convert", "--fit=fit", "--to=o")
    assert (code, "there is no folder fit" in err) == (2, True)
    save(CONVS, None, None)
    code, _, err = imagic("convert", "--fit=fit", "--to=o", "--dtype=int8")
    assert (code, "--dtype must be one of float32, bfloat16, float16" in err) == (2, True)
    code, _, err = imagic("convert", "--fit=fit", "--to=fit/fit.json")
    assert (code, "is a file" in err) == (2, True)
    about = json.loads((tmp_path / "fit" / "fit.json").read_text())
    for change, words in (
        ({"random_weights": True}, "was fitted on random weights"),
        ({"weights": "another"}, "was fitted on other weights than those of tiny here"),
        ({"config": {"model": "gone"}}, "there is no model 'gone'"),
    ):
        (tmp_path / "fit" / "fit.json").write_text(json.dumps({**about, **change}))
        code, _, err = imagic("convert", "--fit=fit", "--to=o")
        assert code == 2
        assert words in err
        assert err.count("\n") == 1
        assert not (tmp_path / "o").exists()


def test_numbers_too_large_for_a_dtype_are_told(imagic, save, tmp_path, monkeypatch):
    make = make_fit

    def large(opened, specs):
        fit = make(opened, specs)
        for delta in (s.delta for s in fit.stages if s.delta):
            first = next(iter(delta))
            delta[first] = jnp.full_like(delta[first], 1e6)
        return fit

    monkeypatch.setitem(globals(), "make_fit", large)
    for spec in (CONVS, LORA):
        save(spec, None, None)
        code, _, err = imagic("convert", "--fit=fit", "--to=o", "--dtype=float16")
        assert code == 2
        assert "too large for float16" in err
        assert not (tmp_path / "o").exists()
