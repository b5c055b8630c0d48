"""Metrics by name: what is there, what is missing and says so, and what is not taken."""

import re
import shutil

import jax.numpy as jnp
import metric_networks as networks
import numpy as np
import pytest
from metric_networks import pictures

from imagic_jax.errors import UserError
from imagic_jax.metrics import catalog, clip, lpips
from imagic_jax.metrics.catalog import CATALOG, find, open_metrics
from imagic_jax.metrics.contract import Pairs
from imagic_jax.metrics.psnr import psnr
from imagic_jax.metrics.sets import SETS, open_sets, together
from imagic_jax.weights import WeightsError

X, Y = pictures(3, 64, 72, 3, seed=0), pictures(3, 64, 72, 3, seed=1)
MASK = np.zeros((3, 64, 72), np.float32)
MASK[:2, 20:50, 20:60] = 1
TEXTS, SOURCES = ("a red dog", "a blue dog", "a dog"), ("a dog", "a dog", "a dog")
PAIRS = Pairs(X, Y, MASK, TEXTS, SOURCES)
CLIPS = ("clip_cos", "clipscore_w2.5", "clipscore_100", "clip_i", "clip_dir")


def test_pixel_metrics_need_no_weights():
    names = [n for n in CATALOG if n.split("_")[0] in ("mse", "psnr", "ssim")]
    opened = open_metrics([*names, "pie_psnr", "pie_mse", "pie_ssim"])
    assert len(names) == 9
    assert not opened.missing
    scores = opened.score(PAIRS)
    assert set(scores.values) == {*names, "pie_psnr", "pie_mse", "pie_ssim"}
    np.testing.assert_allclose(
        scores.values["psnr"], psnr(jnp.asarray(X), jnp.asarray(Y), 1.0), rtol=1e-5
    )
    for name, values in scores.values.items():
        undefined = np.isnan(values)
        assert undefined.tolist() == [False, False, name.endswith("_edited")], name
    assert [note.split(":")[0] for note in scores.notes] == [n for n in names if "edited" in n]
    assert "1 of 3 not defined, because the region is empty" in scores.notes[0]


def test_networks_come_from_the_folder(weights):
    names = ["lpips_alex", "lpips_alex_background", *(f"{n}@tiny-clip" for n in CLIPS)]
    opened = open_metrics(names, weights)
    assert not opened.missing
    values = opened.score(PAIRS).values
    module, params, _ = networks.lpips_network("alex")
    expected = lpips.lpips(module, params, 2 * jnp.asarray(X) - 1, 2 * jnp.asarray(Y) - 1)
    np.testing.assert_allclose(values["lpips_alex"], expected, rtol=1e-5)
    cosine, scaled, hundred, likeness, direction = (values[f"{n}@tiny-clip"] for n in CLIPS)
    np.testing.assert_allclose(hundred, 100 * cosine, rtol=1e-5)
    assert (scaled >= 0).all()
    assert (np.abs([cosine, likeness]) <= 1).all()
    assert np.isnan(direction).tolist() == [False, False, True]  # its texts are the same


def test_clip_scores_are_those_of_the_pair(weights):
    pair = open_metrics(["clip_cos@tiny-clip"], weights).networks.clip("tiny-clip")
    pixels = clip.clip_pixels(jnp.asarray(X), pair.how)
    assert pixels.shape == (3, 16, 16, 3)
    out = pair.module.apply({"params": pair.params}, pair.tokenize(TEXTS), pixels)
    expected = np.sum(np.asarray(out.image_embeds) * np.asarray(out.text_embeds), axis=-1)
    values = open_metrics(["clip_cos@tiny-clip"], weights).score(PAIRS).values
    np.testing.assert_allclose(values["clip_cos@tiny-clip"], expected, rtol=1e-4)


def test_scores_do_not_depend_on_how_many_are_scored_at_once(weights):
    opened = open_metrics(["lpips_alex", "psnr"], weights)
    many = Pairs(*(np.concatenate([a] * 4)[:11] for a in (X, Y)))
    together_ = opened.score(many).values
    for name, values in opened.score(Pairs(X[1:2], Y[1:2])).values.items():
        np.testing.assert_allclose(together_[name][1::3], values[0], rtol=1e-4)


def test_what_is_missing_is_left_out_and_says_what_it_wants(weights):
    names = ["psnr", "lpips_vgg", "clip_cos", "dino_struct", "pie_lpips"]
    opened = open_metrics(names, weights)
    assert [m.name for m in opened.metrics] == ["psnr"]
    assert set(opened.missing) == set(names[1:])
    assert "vgg16-397923af.safetensors" in opened.missing["lpips_vgg"]
    assert "python -c" in opened.missing["dino_struct"]
    assert "clip-vit-large-patch14" in opened.missing["clip_cos"]
    assert set(opened.score(PAIRS).values) == {"psnr"}
    nothing = open_metrics(["lpips_alex", "clip_i"])
    assert "no folder" in nothing.missing["lpips_alex"]
    assert "no folder" in nothing.missing["clip_i"]
    sets = open_sets(["fid_clean", "kid_clean"], weights)
    assert not sets.metrics
    assert "pt_inception-2015-12-05-6726825d" in sets.missing["kid_clean"]


def test_pickles_are_not_opened(weights, tmp_path):
    shutil.copytree(weights, tmp_path, dirs_exist_ok=True)
    (tmp_path / "lpips_alex.safetensors").unlink()
    (tmp_path / "alex.pth").write_bytes(b"not opened")
    said = open_metrics(["lpips_alex"], tmp_path).missing["lpips_alex"]
    assert "alex.pth" in said
    assert "can run code" in said
    assert "weights_only=True" in said


def test_a_broken_file_is_an_error_and_not_a_missing_metric(weights, tmp_path):
    shutil.copytree(weights, tmp_path, dirs_exist_ok=True)
    trunk = tmp_path / "alexnet-owt-7be5be79.safetensors"
    shutil.copy(tmp_path / "lpips_alex.safetensors", trunk)
    with pytest.raises(WeightsError, match=r"features\.0\.weight"):
        open_metrics(["lpips_alex"], tmp_path)
    trunk.write_bytes(trunk.read_bytes()[:50])
    with pytest.raises(WeightsError, match="not a whole safetensors file"):
        open_metrics(["lpips_alex"], tmp_path)


def test_names_that_are_not_there():
    for name in ("lpips", "clip_cos@", "psnr@x", ""):
        with pytest.raises(UserError, match="no metric"):
            find(name)
    with pytest.raises(UserError, match="no metric"):
        open_sets(["fid"])
    with pytest.raises(UserError, match="no such folder"):
        open_metrics(["psnr"], "/nowhere/at/all")


def test_identities_are_whole_and_differ():
    metrics = [*CATALOG.values(), find("clip_cos@some/where/my-clip")]
    identities = [m.identity for m in metrics] + [m.identity(10) for m in SETS.values()]
    assert len(set(identities)) == len(identities)
    for identity in identities:
        assert re.fullmatch(r"[\w.@/-]+\{[\w./:=,-]+\}", identity), identity
    expected = "{model=clip-vit-large-patch14,resize=pil-bicubic-short224-crop,text=raw}"
    assert CATALOG["clip_cos"].identity == f"clip_cos{expected}"
    assert "model=my-clip" in metrics[-1].identity


NAN = X.copy()
NAN[1, 5, 5] = np.nan


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (Pairs(X[..., 0], Y), "shape"),
        (Pairs(X[..., :1], Y), "shape"),
        (Pairs(X[:0], Y[:0]), "shape"),
        (Pairs((255 * X).astype(np.uint8), Y), "uint8.*divide by 255"),
        (Pairs(255 * X, Y), "divide by 255"),
        (Pairs(2 * X - 1, Y), r"range from -1 to 1.*\(x \+ 1\) / 2"),
        (Pairs(X, 3 * Y - 1), "range"),
        (Pairs(NAN, Y), "outputs: picture 2 of 3 holds NaN"),
        (Pairs(X, NAN), "references: picture 2"),
        (Pairs(X / 0.0 if False else np.full_like(X, np.inf), Y), "infinite"),
        (Pairs(X[:, :32], Y), "32 x 72, but references of 64 x 72"),
        (Pairs(X[:2], Y), "2 outputs, but 3 references"),
        (Pairs(X), "psnr needs reference"),
        (Pairs(X, Y, MASK[:, :9]), "masks have shape"),
        (Pairs(X, Y, 255 * MASK), "other than 0 and 1"),
        (Pairs(X, Y, None, "a red dog"), "one text for 3"),
        (Pairs(X, Y, None, TEXTS[:2]), "2 texts for 3"),
    ],
)
def test_what_is_not_taken_is_named(pairs, said):
    with pytest.raises(UserError, match=said) as caught:
        open_metrics(["psnr"]).score(pairs)
    assert "\n" not in str(caught.value)


def test_pictures_too_small_for_a_metric_are_named(weights):
    small = Pairs(X[:, :32], Y[:, :32])
    with pytest.raises(UserError, match="lpips_alex: pictures of 32 x 72"):
        open_metrics(["lpips_alex"], weights).score(small)
    with pytest.raises(UserError, match="ssim: pictures of 8 x 72"):
        open_metrics(["ssim"]).score(Pairs(X[:, :8], Y[:, :8]))


def test_sets_are_compared_batch_by_batch(monkeypatch):
    module, params, _ = networks.inception_network(networks.SHRINK)
    monkeypatch.setattr(catalog.Networks, "_inception", lambda self: (module, params), raising=True)
    sets = open_sets(["fid_tf1", "kid_tf1"])
    features = together(sets.features(a) for a in (X[:2], Y[:2]))
    assert features["tf1"].shape == (4, 2048 // networks.SHRINK)
    same = sets.compare(features, features)
    assert same["fid_tf1"] == pytest.approx(0, abs=1e-4)
    assert set(same) == {"fid_tf1", "kid_tf1", "kid_tf1_se"}
    with pytest.raises(UserError, match="kid_tf1: 2 pictures"):
        open_sets(["kid_tf1"]).compare(sets.features(X[:2]), features)
