"""CLIP pair, autoencoder and latent stage: their losses, their folders, and runs of a few steps."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones import registry
from imagic_jax.errors import UserError
from imagic_jax.flatland import factors as fx
from imagic_jax.jobs import presets
from imagic_jax.models import AutoencoderKL, CLIPModel, CLIPTextModel, UNet2DCondition
from imagic_jax.training import build, data, export_latent
from imagic_jax.training.clip_task import contrastive_loss
from imagic_jax.training.vae_task import divergence
from imagic_jax.weights import load_part
from imagic_jax.weights.modules import random_part

PARTS = ("flatland_clip", "flatland_vae", "flatland_sd")
LAYERS = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
TRAINING = {"steps": 0}


@pytest.fixture(scope="module")
def configs():
    """The three training configs with tiny networks."""
    found = {}
    for name in PARTS:
        path = presets.find_preset(f"train/{name}", "train/*.py")
        found[name] = presets.load_config(path).to_dict()
        found[name]["captions"] = 16
        found[name]["data"]["batch"] = 6
        found[name]["recipe"] |= {"steps": 2}
    for tower in ("text_config", "vision_config"):
        found["flatland_clip"]["clip"][tower] |= LAYERS
    sizes = {"layers_per_block": 1, "norm_num_groups": 4}
    found["flatland_vae"]["vae"] |= {"block_out_channels": [8, 8, 8], **sizes}
    found["flatland_sd"]["unet"] |= {
        "block_out_channels": [8, 16],
        "attention_head_dim": 2,
        "cross_attention_dim": 32,
        **sizes,
    }
    return found


@pytest.fixture(scope="module")
def exported(configs, tmp_path_factory):
    """Folders of untrained models, written as trained ones are."""
    home = tmp_path_factory.mktemp("models")
    clip, vae, sd = (configs[n] for n in PARTS)

    def params(raw):
        (home / "config").mkdir(exist_ok=True)
        (home / "config" / "config.json").write_text(json.dumps(raw))
        return random_part(home / "config")

    pair, model = home / "flatland-clip", home / "flatland-sd"
    build.open_tokenizer(clip, pair)
    export_latent.export_clip(pair, clip, params(clip["clip"]), TRAINING)
    export_latent.export_vae(model, vae, params(vae["vae"]), TRAINING, 0.5)
    build.build_task(sd, model)
    export_latent.export_latent(model, sd, params(sd["unet"]), TRAINING)
    return home


def test_the_folder_is_a_stable_diffusion_model(exported):
    loaded = registry.load_cascade(exported / "flatland-sd")
    (stage,) = loaded.cascade.stages
    assert loaded.card["family"] == "sd"
    assert (stage.size, stage.sample_shape(1)) == (64, (1, 16, 16, 4))
    assert stage.codec.scaling_factor == 0.5
    assert stage.schedule.prediction_type == "v_prediction"
    assert loaded.cascade.tuned == (True,)
    (cond,) = loaded.cascade.text.encode(loaded.params["text"], ["a red dog in the snow"])
    assert cond.states.shape == (1, 24, 32)
    (note,) = loaded.cascade.text.check("a red zebra, jumping")
    assert '"zebra"' in note
    assert '"red"' not in note
    index = json.loads((exported / "flatland-sd" / "model_index.json").read_text())
    parts = {k for k, v in index.items() if isinstance(v, list) and v[0]}
    assert all((exported / "flatland-sd" / p).is_dir() for p in parts)


def test_the_latent_model_reads_the_pairs_text_tower(exported):
    pair, params = load_part(exported / "flatland-clip")
    tower, own = load_part(exported / "flatland-sd" / "text_encoder")
    assert isinstance(pair, CLIPModel)
    assert isinstance(tower, CLIPTextModel)
    ids = jnp.array([[812, 5, 9, 813]])
    theirs = pair.apply({"params": params}, ids, method="encode_text").last_hidden_state
    np.testing.assert_array_equal(tower.apply({"params": own}, ids).last_hidden_state, theirs)
    for name in ("vocab.json", "merges.txt"):
        a, b = exported / "flatland-clip" / name, exported / "flatland-sd" / "tokenizer" / name
        assert a.read_bytes() == b.read_bytes()


def test_what_must_come_first_is_named(configs, tmp_path, exported):
    sd = configs["flatland_sd"]
    with pytest.raises(UserError, match="train the autoencoder first"):
        build.build_task(sd, tmp_path / "none")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "vae").symlink_to(exported / "flatland-sd" / "vae")
    with pytest.raises(UserError, match="train the CLIP pair first"):
        build.build_task({**sd, "clip": "flatland-none"}, tmp_path / "model")


def test_a_perfect_match_costs_nothing_and_a_blind_one_log_n():
    eye = jnp.eye(4)
    assert float(contrastive_loss(3.0 * eye, eye, jnp.float32(100.0))) == pytest.approx(0, abs=1e-6)
    blind = contrastive_loss(jnp.ones((4, 4)), eye, jnp.float32(7.0))
    assert float(blind) == pytest.approx(np.log(4), abs=1e-5)


def test_divergence_of_known_normals():
    mean = jnp.array([0.0, 2.0]).reshape(1, 1, 1, 2)
    logvar = jnp.log(jnp.array([1.0, 4.0])).reshape(1, 1, 1, 2)
    expected = [0.0, 0.5 * (4.0 + 4.0 - 1.0 - np.log(4.0))]
    np.testing.assert_allclose(divergence(mean, logvar)[0, 0, 0], expected, rtol=1e-6)


def test_pictures_show_what_captions_name(configs, tmp_path):
    tokenizer = build.open_tokenizer(configs["flatland_vae"], tmp_path)
    table = data.caption_table(tokenizer, 32, 0)
    drawn = data.draw_captions(table, jax.random.key(1), 24, 0.0)
    shown, named = np.asarray(data._shown(drawn.factors)), np.asarray(drawn.named)
    assert (shown[named >= 0] == named[named >= 0]).all()
    assert (named >= 0).mean() > 0.3
    assert shown.shape == (24, len(fx.FACTOR_NAMES))
    assert (shown.max(axis=0) < np.array(data.NAMED_SIZES)).all()


@pytest.mark.slow
def test_trained_parts_load_and_draw(configs, tmp_path, monkeypatch):
    from imagic_jax.cli.main import main

    monkeypatch.chdir(tmp_path)
    for name in PARTS:
        text = json.dumps(json.dumps(configs[name]))
        path = tmp_path / f"{name}.py"
        path.write_text(
            "import json\nfrom ml_collections import ConfigDict\n"
            f"def get_config():\n    return ConfigDict(json.loads({text}))\n"
        )
        assert main(["train", f"--config={path}"]) == 0
    pair, _ = load_part("imagic_models/flatland-clip")
    assert isinstance(pair, CLIPModel)
    training = json.loads((tmp_path / "imagic_models/flatland-clip/training.json").read_text())
    assert set(training["told_apart"]) == set(fx.FACTOR_NAMES)
    model = tmp_path / "imagic_models" / "flatland-sd"
    loaded = registry.load_cascade(model)
    assert isinstance(load_part(model / "vae")[0], AutoencoderKL)
    assert isinstance(load_part(model / "unet")[0], UNet2DCondition)
    assert loaded.card["vae"]["training"]["psnr"] > 0
    for name in PARTS[1:]:
        assert list((tmp_path / "imagic_train" / name / "sheets").glob("*.png"))
    codec, params = loaded.cascade.stages[0].codec, loaded.params["stages"][0]
    key = jax.random.key(0)
    image = jax.random.uniform(key, (4, 64, 64, 3), jnp.float32, -1.0, 1.0)
    assert 0.2 < float(jnp.std(codec.encode(params, image))) < 5.0  # noise is no drawing
