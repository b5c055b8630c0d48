"""Networks opened from folders that PyTorch wrote compute what they compute there."""

import jax
import numpy as np
import pytest
from live import MARKS, applied, assert_agree, nhwc, normal, tensor, torch
from live_models import CLIPS, T5S, UNETS, VAES, clip, t5, unet, vae

from imagic_jax.weights import load_part

pytestmark = [*MARKS, pytest.mark.parametrize("dtype", [np.float32, np.float64])]


def run_theirs(model, dtype, function):
    """`function(model)` without gradients, the model's weights widened where asked for."""
    with torch.no_grad():
        return function(model.double() if dtype is np.float64 else model)


def run_ours(folder, dtype, *args, **kwargs):
    """The network of the folder, weights and computation in `dtype`, applied."""
    with jax.enable_x64(dtype is np.float64):
        module, params = load_part(folder, dtype, param_dtype=dtype)
        args, kwargs = jax.tree.map(lambda a: as_dtype(a, dtype), (args, kwargs))
        return applied(module, params, *args, **kwargs)


def as_dtype(value, dtype):
    """Floating-point arrays in `dtype`, integers in int32, anything else as it is."""
    if not isinstance(value, np.ndarray):
        return value
    return value.astype(dtype if value.dtype.kind == "f" else np.int32)


@pytest.mark.parametrize("name", UNETS)
def test_unet(tmp_path, parity, name, dtype):
    model, config = unet(name), UNETS[name]
    model.save_pretrained(tmp_path)
    sample = normal(2, 16, 8, model.config.in_channels)
    steps = np.asarray([7, 981])
    text = normal(2, 9, config.get("encoder_hid_dim") or config["cross_attention_dim"])
    extra, added = {}, {}
    if "num_class_embeds" in config or "class_embed_type" in config:
        extra["class_labels"] = np.asarray([20, 349])
    if config.get("addition_embed_type") == "text_time":
        added["text_embeds"] = normal(2, 28)
        added["time_ids"] = np.asarray([[512, 384, 0, 8, 512, 512], [64, 64, 3, 0, 100, 90]])

    def theirs(model):
        give = {k: tensor(v, dtype) for k, v in extra.items()}
        give["added_cond_kwargs"] = {k: tensor(v, dtype) for k, v in added.items()}
        inputs = (sample.transpose(0, 3, 1, 2), steps, text)
        return nhwc(model(*(tensor(i, dtype) for i in inputs), **give).sample)

    ours = run_ours(tmp_path, dtype, sample, steps, text, **extra, **added)
    assert_agree(parity, f"unet {name}", ours, run_theirs(model, dtype, theirs))


@pytest.mark.parametrize("name", VAES)
def test_vae(tmp_path, parity, name, dtype):
    model = vae(name)
    model.save_pretrained(tmp_path)
    factor = 2 ** (len(VAES[name]["block_out_channels"]) - 1)
    image = normal(2, 2 * factor, 3 * factor, 3)
    latent = normal(2, 3, 2, VAES[name]["latent_channels"])

    def theirs(model):
        inputs = (tensor(x.transpose(0, 3, 1, 2), dtype) for x in (image, latent))
        moments = model.encode(next(inputs)).latent_dist
        decoded = model.decode(next(inputs)).sample
        return [nhwc(x) for x in (moments.mean, moments.logvar, decoded)]

    moments = run_ours(tmp_path, dtype, image, method="encode")
    decoded = run_ours(tmp_path, dtype, latent, method="decode")
    for ours, expected in zip((*moments, decoded), run_theirs(model, dtype, theirs), strict=True):
        assert_agree(parity, name, ours, expected)


@pytest.mark.parametrize("name", CLIPS)
def test_clip(tmp_path, parity, name, dtype):
    model = clip(name)
    model.save_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(3, 148, (3, 33))
    ids[0, 5:] = ids[1, 32:] = ids[2, 1:] = 149  # the end of a text, and padding like it

    def theirs(model):
        out = model(tensor(ids, dtype), output_hidden_states=True)
        pooled = out.text_embeds if "projection" in name else out.pooler_output
        return [nhwc(x) for x in (out.last_hidden_state, out.hidden_states[-2], pooled)]

    outputs = run_ours(tmp_path, dtype, ids)
    for ours, expected in zip(outputs, run_theirs(model, dtype, theirs), strict=True):
        assert_agree(parity, name, ours, expected)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", T5S)
def test_t5(tmp_path, parity, name, masked, dtype):
    model = t5(name)
    model.save_pretrained(tmp_path)
    ids = np.random.default_rng(0).integers(2, 90, (3, 40))
    mask = (np.arange(40) < np.asarray([[40], [13], [1]])).astype(np.int32)
    given = (ids, mask) if masked else (ids,)

    def theirs(model):
        return nhwc(model(*(tensor(a, dtype) for a in given)).last_hidden_state)

    ours = run_ours(tmp_path, dtype, *given)
    # transformers' norms and softmax are float32 whatever the model is: a floor under float64
    tolerance = 5e-6 if dtype is np.float64 else None
    assert_agree(parity, name, ours, run_theirs(model, dtype, theirs), tolerance)
