"""Model folders: strict reading, exact saving, errors that name what is wrong."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from imagic_jax.models import T5Encoder, UNet2DCondition, UnsupportedConfig
from imagic_jax.weights import WeightsError, load_part, save_part

UNETS = ("sd1", "sd2", "sdxl", "x4", "if_i", "if_ii", "if_ii_only_cross")
UNET_FILE, T5_FILE = "diffusion_pytorch_model.safetensors", "model.safetensors"


def _edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _config(folder):
    return json.loads((folder / "config.json").read_text())


@pytest.mark.parametrize("name", [*(f"unet_{n}" for n in UNETS), "t5_encoder"])
def test_loading_and_saving_gives_the_file_back_to_the_bit(model_folder, tmp_path, name):
    folder = model_folder(name)
    module, params = load_part(folder)
    assert isinstance(module, T5Encoder if name == "t5_encoder" else UNet2DCondition)
    save_part(tmp_path / "again", _config(folder), params)
    file = T5_FILE if name == "t5_encoder" else UNET_FILE
    before, after = load_file(folder / file), load_file(tmp_path / "again" / file)
    assert before.keys() == after.keys()
    for key, array in before.items():
        assert array.dtype == after[key].dtype
        np.testing.assert_array_equal(array, after[key], err_msg=key)
    assert _config(tmp_path / "again") == _config(folder)
    with safe_open(tmp_path / "again" / file, "numpy") as stored:
        assert stored.metadata() == {"format": "pt"}


def test_a_loaded_part_computes(model_folder):
    module, params = load_part(model_folder("t5_encoder"), dtype=jnp.bfloat16)
    out = module.apply({"params": params}, jnp.asarray([[5, 6, 1]]))
    assert (out.dtype, out.shape) == (jnp.bfloat16, (1, 3, 48))


def test_t5s_second_copy_of_its_embedding_is_allowed(model_folder):
    load_part(model_folder("t5_encoder__with_tied_copy"))


def test_parameters_can_be_kept_in_another_dtype_and_placed(model_folder):
    folder, seen = model_folder("t5_encoder"), []

    def place(path, array):
        seen.append(path)
        return jax.device_put(array, jax.devices()[0])

    _, params = load_part(folder, param_dtype=jnp.bfloat16, place=place)
    leaves = jax.tree.leaves(params)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype(jnp.bfloat16)}
    assert len(seen) == len(leaves)
    assert ("shared", "embedding") in seen


def test_all_that_does_not_fit_is_named_in_one_error(model_folder):
    folder = model_folder("unet_sd1")
    tensors = load_file(folder / UNET_FILE)
    del tensors["conv_in.bias"]
    tensors["conv_out.weight"] = tensors["conv_out.weight"][:3]
    tensors["extra.weight"] = np.zeros(3, np.float32)
    save_file(tensors, folder / UNET_FILE)
    with pytest.raises(WeightsError) as caught:
        load_part(folder)
    message = str(caught.value)
    assert "1 missing: conv_in.bias" in message
    assert "1 not in the network: extra.weight" in message
    assert "conv_out.weight (3, 16, 3, 3) in place of (4, 16, 3, 3)" in message
    assert str(folder) in message


def test_long_lists_of_names_are_cut(model_folder):
    folder = model_folder("unet_sd1")
    save_file({"conv_in.bias": np.zeros(16, np.float32)}, folder / UNET_FILE)
    with pytest.raises(WeightsError, match=r"missing: .* and \d+ more"):
        load_part(folder)


def test_integers_where_weights_belong_are_refused(model_folder):
    folder = model_folder("t5_encoder")
    tensors = load_file(folder / T5_FILE)
    tensors["shared.weight"] = tensors["shared.weight"].astype(np.int8)
    save_file(tensors, folder / T5_FILE)
    with pytest.raises(WeightsError, match=r"shared\.weight holds int8"):
        load_part(folder)


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "grown"])
def test_broken_files_are_told_apart_from_wrong_ones(model_folder, damage):
    path = model_folder("t5_encoder") / T5_FILE
    data = path.read_bytes()
    path.write_bytes(
        {"cut": data[:-100], "empty": b"", "text": b"<html>" * 99, "grown": data + b"x"}[damage]
    )
    with pytest.raises(WeightsError, match=r"model\.safetensors: not a whole safetensors file"):
        load_part(path.parent)


def _shard(folder, stem, index):
    tensors = load_file(folder / f"{stem}.safetensors")
    (folder / f"{stem}.safetensors").unlink()
    keys = sorted(tensors)
    weight_map = {}
    for number, part in enumerate((keys[::2], keys[1::2]), 1):
        name = f"{stem}-0000{number}-of-00002.safetensors"
        save_file({key: tensors[key] for key in part}, folder / name)
        weight_map |= dict.fromkeys(part, name)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return weight_map


@pytest.mark.parametrize(
    "index",
    [
        "model.safetensors.index.json",
        "model.safetensors.index.fp16.json",
        "model.fp16.safetensors.index.json",
    ],
)
def test_shards_are_read_through_their_index(model_folder, tmp_path, index):
    whole = load_part(model_folder("t5_encoder"))[1]
    folder = tmp_path / "t5_encoder"
    _shard(folder, "model", index)
    jax.tree.map(np.testing.assert_array_equal, load_part(folder)[1], whole)


def test_broken_indices_and_missing_shards_are_named(model_folder):
    folder, index = model_folder("t5_encoder"), "model.safetensors.index.json"
    weight_map = _shard(folder, "model", index)
    for changes, match in (
        ({"shared.weight": "../elsewhere.safetensors"}, r"shared\.weight is said to be in"),
        ({"nothing.weight": weight_map["shared.weight"]}, r"lacks nothing\.weight"),
        ({"more.weight": "model-3.safetensors"}, r"model-3\.safetensors: the file is missing"),
    ):
        (folder / index).write_text(json.dumps({"weight_map": weight_map | changes}))
        with pytest.raises(WeightsError, match=match):
            load_part(folder)
    for text in ("{", "[]", "{}"):
        (folder / index).write_text(text)
        with pytest.raises(WeightsError, match="not a safetensors index"):
            load_part(folder)


def test_fp16_files_become_float32_parameters(model_folder):
    folder = model_folder("unet_sd1", "diffusion_pytorch_model.fp16.safetensors")
    path = folder / "diffusion_pytorch_model.fp16.safetensors"
    halves = {key: array.astype(np.float16) for key, array in load_file(path).items()}
    save_file(halves, path)
    _, params = load_part(folder)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    bias = params["conv_in"]["bias"]
    np.testing.assert_array_equal(bias, halves["conv_in.bias"].astype(np.float32))


def test_pickles_are_refused_with_a_way_out(model_folder):
    folder = model_folder("unet_sd1", "diffusion_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"can run code\. Convert .*save_pretrained"):
        load_part(folder)


def test_folders_without_weights_say_what_is_there(model_folder):
    folder = model_folder("unet_sd1", "something_else.safetensors")
    with pytest.raises(WeightsError, match=r"no diffusion_pytorch_model\.safetensors .*something"):
        load_part(folder)


def test_configs_that_cannot_be_used_are_named(model_folder, tmp_path):
    folder = model_folder("unet_sd1")
    _edit_config(folder, dual_cross_attention=True)
    with pytest.raises(UnsupportedConfig, match=r"config\.json: dual_cross_attention=True"):
        load_part(folder)
    _edit_config(folder, _class_name="AutoencoderTiny")
    with pytest.raises(
        WeightsError, match=r"config\.json: .*'AutoencoderTiny'; supported: AutoencoderKL, .*UNet2D"
    ):
        load_part(folder)
    (folder / "config.json").write_text(json.dumps({"architectures": ["CLIPVisionModel"]}))
    with pytest.raises(WeightsError, match="'CLIPVisionModel'"):
        load_part(folder)
    for text, match in (("{}", "neither _class_name"), ("{", "not valid JSON"), ("[]", "object")):
        (folder / "config.json").write_text(text)
        with pytest.raises(WeightsError, match=match):
            load_part(folder)
    with pytest.raises(WeightsError, match=r"no config\.json"):
        load_part(tmp_path / "nowhere")


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_saving_in_sixteen_bits(model_folder, tmp_path, dtype):
    folder = model_folder("t5_encoder")
    _, params = load_part(folder)
    save_part(tmp_path / "half", _config(folder), params, dtype)
    with safe_open(tmp_path / "half" / T5_FILE, "numpy") as stored:
        assert {stored.get_tensor(key).dtype for key in stored.keys()} == {np.dtype(dtype)}  # noqa: SIM118
    again = load_part(tmp_path / "half")[1]
    expected = jax.tree.map(lambda p: np.asarray(p).astype(dtype).astype(np.float32), params)
    jax.tree.map(np.testing.assert_array_equal, again, expected)


def test_written_weights_may_be_read_by_whom_other_files_may(model_folder, tmp_path):
    folder = model_folder("t5_encoder")
    _, params = load_part(folder)
    save_part(tmp_path / "again", _config(folder), params)
    config, weights = ((tmp_path / "again" / n).stat().st_mode for n in ("config.json", T5_FILE))
    assert weights == config


def test_numbers_too_large_for_half_precision_are_an_error(model_folder, tmp_path):
    folder = model_folder("t5_encoder")
    _, params = load_part(folder)
    params["shared"]["embedding"] = params["shared"]["embedding"].at[0, 0].set(7e4)
    with pytest.raises(WeightsError, match=r"shared\.weight holds 70000, too large for float16"):
        save_part(tmp_path / "half", _config(folder), params, np.float16)
    assert not (tmp_path / "half").exists()


def test_parameters_that_do_not_fit_the_config_are_not_saved(model_folder, tmp_path):
    folder = model_folder("t5_encoder")
    _, params = load_part(folder)
    params["stray"] = {"kernel": jnp.zeros((2, 2))}
    with pytest.raises(WeightsError, match="1 not in the network: stray/kernel"):
        save_part(tmp_path / "wrong", _config(folder), params)


def test_an_interrupted_save_leaves_the_old_files(model_folder, monkeypatch):
    folder = model_folder("t5_encoder")
    _, params = load_part(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def fail(tensors, path, metadata):
        path.write_bytes(b"half a file")
        raise OSError("No space left on device")

    monkeypatch.setattr("imagic_jax.weights.safetensors_io.save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        save_part(folder, _config(folder), jax.tree.map(lambda p: p + 1, params))
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
