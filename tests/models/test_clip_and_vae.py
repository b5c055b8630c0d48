"""CLIP text towers and autoencoders against recorded PyTorch outputs, in every file layout."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from imagic_jax.models import CLIPTextConfig, UnsupportedConfig, VAEConfig
from imagic_jax.weights import WeightsError, load_part, save_part

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
CLIPS = {
    "clip_text_sd1": "pooler_output",
    "clip_text_sd1__transformers5_keys": "pooler_output",
    "clip_text_sd1__with_position_ids": "pooler_output",
    "clip_text_sd2": "pooler_output",
    "clip_text_proj_sdxl": "text_embeds",
}
VAES = ("vae_sd", "vae_sd__old_names", "vae_sd__old_names_as_convolutions", "vae_x4")
OLD_NAMES = {
    ".to_q.": ".query.",
    ".to_k.": ".key.",
    ".to_v.": ".value.",
    ".to_out.0.": ".proj_attn.",
}


@pytest.fixture
def folder(tmp_path):
    """Function (fixture, stem) -> a model folder as published."""

    def make(name, stem):
        shutil.copy(PARITY / f"{name.split('__')[0]}.json", tmp_path / "config.json")
        if "__old" in name:
            tensors = load_file(PARITY / f"{name.split('__')[0]}.safetensors")
            old = dict(_old(k, v, "convolutions" in name) for k, v in tensors.items())
            save_file(old, tmp_path / f"{stem}.safetensors")
        else:
            shutil.copy(PARITY / f"{name}.safetensors", tmp_path / f"{stem}.safetensors")
        return tmp_path

    return make


def _old(key, array, as_convolution):
    """An attention tensor as files of SD1's time have it, others as they are."""
    for new, before in OLD_NAMES.items():
        if new in key:
            as_convolution = as_convolution and array.ndim == 2
            return key.replace(new, before), array[..., None, None] if as_convolution else array
    return key, array


def recorded(name):
    return dict(np.load(PARITY / f"{name.split('__')[0]}.npz"))


def nhwc(array):
    return np.moveaxis(array, 1, -1)


@pytest.mark.parametrize("name", CLIPS)
def test_clip_matches_pytorch(folder, name, parity):
    arrays = recorded(name)
    module, params = load_part(folder(name, "model"))
    out = module.apply({"params": params}, jnp.asarray(arrays["in_input_ids"], jnp.int32))
    for ours, theirs in zip(out, ("last_hidden_state", "penultimate", CLIPS[name]), strict=True):
        assert parity(name, np.asarray(ours), arrays[f"out_{theirs}"]) < 2e-5, theirs


@pytest.mark.parametrize("name", VAES)
def test_vae_matches_pytorch(folder, name, parity):
    arrays = recorded(name)
    module, params = load_part(folder(name, "diffusion_pytorch_model"))
    apply = jax.jit(module.apply, static_argnames="method")
    moments = apply({"params": params}, nhwc(arrays["in_x"]), method="encode")
    for ours, theirs in zip(moments, ("mean", "logvar"), strict=True):
        assert parity(name, np.asarray(ours), nhwc(arrays[f"out_moments_{theirs}"])) < 2e-5
    image = apply({"params": params}, nhwc(arrays["in_z"]), method="decode")
    assert parity(name, np.asarray(image), nhwc(arrays["out_decoded"])) < 2e-5


def test_vae_refuses_sizes_that_it_cannot_halve(folder):
    module, params = load_part(folder("vae_sd", "diffusion_pytorch_model"))
    factor = module.config.factor
    odd = jnp.zeros((1, 4 * factor, 4 * factor + 1, 3), jnp.float32)
    with pytest.raises(ValueError, match=f"multiples of {factor}"):
        module.apply({"params": params}, odd, method="encode")


@pytest.mark.parametrize(
    ("name", "stem"),
    [("clip_text_proj_sdxl", "model"), ("vae_x4", "diffusion_pytorch_model")],
)
def test_what_is_saved_loses_no_bit(folder, tmp_path, name, stem):
    source = folder(name, stem)
    _, params = load_part(source)
    again = tmp_path / "again"
    save_part(again, json.loads((source / "config.json").read_text()), params)
    before, after = (load_file(p / f"{stem}.safetensors") for p in (source, again))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_both_trace_under_strict_promotion(folder, dtype):
    with jax.numpy_dtype_promotion("strict"):
        module, params = load_part(folder("vae_sd", "diffusion_pytorch_model"), dtype)
        image = jnp.zeros((1, 16, 16, 3), dtype)
        out = jax.eval_shape(lambda p: module.apply({"params": p}, image), params)
        assert out.dtype == dtype
        assert out.shape == image.shape
        module, params = load_part(folder("clip_text_sd1", "model"), dtype)
        ids = jnp.zeros((1, 77), jnp.int32)
        states = jax.eval_shape(lambda p: module.apply({"params": p}, ids), params)
        assert {s.dtype for s in states} == {jnp.dtype(dtype)}


def test_the_end_of_a_text_is_found_by_its_id_or_as_the_largest(folder):
    module, params = load_part(folder("clip_text_sd1", "model"))
    ids = jnp.asarray([[598, 5, 599, 1, 1]])
    legacy = module.apply({"params": params}, ids)
    assert module.config.eos_token_id == 2
    named = module.copy(config=CLIPTextConfig.from_dict(_raw("clip_text_sd1", eos_token_id=5)))
    by_id = named.apply({"params": params}, ids)
    np.testing.assert_array_equal(legacy.pooled, legacy.last_hidden_state[:, 2])
    np.testing.assert_array_equal(by_id.pooled, by_id.last_hidden_state[:, 1])


def test_later_tokens_change_nothing_before_them(folder):
    module, params = load_part(folder("clip_text_sd2", "model"))
    one, other = jnp.asarray([[598, 5, 6, 7]]), jnp.asarray([[598, 5, 6, 8]])
    a, b = (module.apply({"params": params}, i).last_hidden_state for i in (one, other))
    np.testing.assert_array_equal(a[:, :3], b[:, :3])
    assert not np.array_equal(a[:, 3], b[:, 3])


def _raw(name, **changes):
    return json.loads((PARITY / f"{name}.json").read_text()) | changes


def test_more_tokens_than_positions_are_refused(folder):
    module, params = load_part(folder("clip_text_sd1", "model"))
    with pytest.raises(ValueError, match="78 tokens"):
        module.apply({"params": params}, jnp.zeros((1, 78), jnp.int32))


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (CLIPTextConfig, {"hidden_act": "tanh"}),
        (CLIPTextConfig, {"num_attention_heads": 5}),
        (VAEConfig, {"norm_num_groups": 7}),
        (VAEConfig, {"use_quant_conv": False}),
        (VAEConfig, {"down_block_types": ["AttnDownEncoderBlock2D"]}),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(config, changes):
    name = "clip_text_sd1" if config is CLIPTextConfig else "vae_sd"
    with pytest.raises(UnsupportedConfig, match=next(iter(changes))):
        config.from_dict(_raw(name, **changes))


def test_a_tensor_under_both_its_names_is_refused(folder):
    path = folder("vae_sd__old_names", "diffusion_pytorch_model")
    file = path / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    old = "encoder.mid_block.attentions.0.query.weight"
    save_file(tensors | {old.replace("query", "to_q"): tensors[old].copy()}, file)
    with pytest.raises(WeightsError, match="the same tensor"):
        load_part(path)
