"""The CLIP pair and its image tower against recorded PyTorch outputs."""

import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from imagic_jax.models import CLIPConfig, CLIPVisionConfig, CLIPVisionModel, UnsupportedConfig
from imagic_jax.weights import WeightsError, load_part, save_part

PARITY = Path(__file__).parents[1] / "fixtures" / "parity"
OUTPUTS = ("text_embeds", "image_embeds", "logits_per_image")


@pytest.fixture
def folder(tmp_path):
    """The recorded pair as transformers saves it."""
    for ending in ("json", "safetensors"):
        name = "config.json" if ending == "json" else "model.safetensors"
        shutil.copy(PARITY / f"clip_pair.{ending}", tmp_path / name)
    return tmp_path


@pytest.fixture
def arrays():
    """Recorded inputs and outputs, pictures in NHWC."""
    found = dict(np.load(PARITY / "clip_pair.npz"))
    return {k: np.moveaxis(v, 1, -1) if v.ndim == 4 else v for k, v in found.items()}


def inputs(arrays):
    return jnp.asarray(arrays["in_input_ids"], jnp.int32), jnp.asarray(arrays["in_pixel_values"])


def test_the_pair_matches_pytorch(folder, arrays, parity):
    module, params = load_part(folder)
    out = jax.jit(module.apply)({"params": params}, *inputs(arrays))
    for name in OUTPUTS:
        error = parity("clip_pair", np.asarray(getattr(out, name)), arrays[f"out_{name}"])
        assert error < 2e-5, name


def test_each_tower_alone_gives_what_the_pair_normalises(folder, arrays):
    module, params = load_part(folder)
    ids, pixels = inputs(arrays)
    text = module.apply({"params": params}, ids, method="encode_text")
    image = module.apply({"params": params}, pixels, method="encode_image")
    for tower, states, embeds in (
        ("text", text.last_hidden_state, text.pooled),
        ("vision", image.last_hidden_state, image.image_embeds),
    ):
        recorded = arrays[f"out_{tower}_last_hidden_state"]
        np.testing.assert_allclose(states, recorded, atol=2e-5)
        recorded = arrays[f"out_{tower.replace('vision', 'image')}_embeds"]
        length = np.linalg.norm(embeds, axis=-1, keepdims=True)
        np.testing.assert_allclose(embeds / length, recorded, atol=2e-5)


def test_an_image_tower_alone_is_read_strictly(folder, arrays, tmp_path):
    raw = json.loads((folder / "config.json").read_text())
    config = raw["vision_config"] | {"architectures": ["CLIPVisionModelWithProjection"]}
    tensors = load_file(folder / "model.safetensors")
    alone = {k: v for k, v in tensors.items() if k.startswith(("vision_model.", "visual_"))}
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "config.json").write_text(json.dumps(config))
    ids = np.arange(17)[None]  # older files hold the positions, which say nothing
    old = {**alone, "vision_model.embeddings.position_ids": ids}
    save_file(old, tmp_path / "alone" / "model.safetensors")
    module, params = load_part(tmp_path / "alone")
    assert isinstance(module, CLIPVisionModel)
    embeds = module.apply({"params": params}, inputs(arrays)[1]).image_embeds
    pair, whole = load_part(folder)
    expected = pair.apply({"params": whole}, inputs(arrays)[1], method="encode_image")
    np.testing.assert_allclose(embeds, expected.image_embeds, atol=1e-6)
    alone.pop("visual_projection.weight")
    save_file(alone, tmp_path / "alone" / "model.safetensors")
    with pytest.raises(WeightsError, match=r"visual_projection\.weight"):
        load_part(tmp_path / "alone")


def test_what_is_saved_loses_no_bit(folder, tmp_path):
    _, params = load_part(folder)
    save_part(tmp_path / "again", json.loads((folder / "config.json").read_text()), params)
    before, after = (load_file(p / "model.safetensors") for p in (folder, tmp_path / "again"))
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[k], after[k]) for k in before)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_pair_traces_under_strict_promotion(folder, arrays, dtype):
    with jax.numpy_dtype_promotion("strict"):
        module, params = load_part(folder, dtype)
        ids, pixels = inputs(arrays)
        out = jax.eval_shape(lambda p: module.apply({"params": p}, ids, pixels), params)
        assert {a.dtype for a in out} == {jnp.dtype(jnp.float32)}
        image = jax.eval_shape(
            lambda p: module.apply({"params": p}, pixels, method="encode_image"), params
        )
        assert {a.dtype for a in image} == {jnp.dtype(dtype)}


def test_pictures_of_another_size_are_refused(folder):
    module, params = load_part(folder)
    with pytest.raises(ValueError, match="16 x 16"):
        module.apply({"params": params}, jnp.zeros((1, 16, 20, 3)), method="encode_image")


@pytest.mark.parametrize(
    ("config", "changes"),
    [
        (CLIPVisionConfig, {"hidden_act": "tanh"}),
        (CLIPVisionConfig, {"num_attention_heads": 5}),
        (CLIPVisionConfig, {"num_channels": 4}),
        (CLIPVisionConfig, {"patch_size": 5, "image_size": 16}),
        (CLIPConfig, {"text_config": {"hidden_act": "tanh"}}),
    ],
)
def test_what_is_not_implemented_is_refused_by_name(config, changes):
    with pytest.raises(UnsupportedConfig, match=r"hidden_act|num_|patch_size"):
        config.from_dict(changes)
