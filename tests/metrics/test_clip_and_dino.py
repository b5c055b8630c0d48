"""CLIP's and DINO's scores by their formulas, their preprocessing, and PIE-Bench's habits."""

import functools
import json

import jax
import jax.numpy as jnp
import metric_networks as networks
import numpy as np
import pytest
from metric_networks import pictures
from PIL import Image as pil

from imagic_jax.metrics import clip, dino, pie
from imagic_jax.metrics.networks import preprocessing
from imagic_jax.metrics.psnr import masked_psnr, psnr
from imagic_jax.models.clip_pair import unit
from imagic_jax.weights import WeightsError

RANDOM = np.random.RandomState(0)
A, B, T, U = (unit(jnp.asarray(RANDOM.randn(4, 7), jnp.float32)) for _ in range(4))
X, Y = (jnp.asarray(pictures(2, 40, 40, 3, seed=s)) for s in (0, 1))


def test_three_scales_of_one_cosine():
    cosine = np.asarray([float(np.dot(a, t)) for a, t in zip(A, T, strict=True)])
    assert (cosine < 0).any()
    np.testing.assert_allclose(clip.clip_cos(A, T), cosine, rtol=1e-5)
    np.testing.assert_allclose(clip.clipscore_100(A, T), 100 * cosine, rtol=1e-5)
    np.testing.assert_allclose(clip.clipscore_w2_5(A, T), 2.5 * np.maximum(cosine, 0), rtol=1e-5)
    np.testing.assert_allclose(clip.clip_i(A, A), 1.0, rtol=1e-5)


def test_direction_is_that_of_the_change():
    np.testing.assert_allclose(clip.clip_dir(A, B, A, B), 1.0, rtol=1e-5)
    np.testing.assert_allclose(clip.clip_dir(A, B, B, A), -1.0, rtol=1e-5)
    expected = [
        np.dot(b - a, u - t) / np.linalg.norm(b - a) / np.linalg.norm(u - t)
        for a, b, t, u in zip(A, B, T, U, strict=True)
    ]
    np.testing.assert_allclose(clip.clip_dir(A, B, T, U), expected, rtol=1e-4)
    unchanged = B.at[1].set(A[1])
    assert np.isnan(clip.clip_dir(A, unchanged, T, U)).tolist() == [False, True, False, False]
    assert np.isnan(clip.clip_dir(A, B, T, T)).all()


def test_pictures_are_brought_to_the_tower_as_openai_does():
    array = RANDOM.randint(0, 256, (61, 47, 3)).astype(np.uint8)
    how = clip.Preprocessing(size=32)
    pixels = jax.jit(clip.clip_pixels, static_argnums=1)(jnp.asarray(array[None] / 255.0), how)
    scaled = pil.fromarray(array).resize((32, 41), pil.Resampling.BICUBIC)
    cut = np.asarray(scaled.crop((0, 4, 32, 36)), np.float64) / 255  # (41 - 32) / 2 = 4.5, even: 4
    np.testing.assert_allclose(pixels[0], (cut - how.mean) / how.std, atol=1e-5)


def test_the_other_preprocessing_is_differentiable():
    how = clip.Preprocessing(size=16, kind="interpolate")
    gradient = jax.jit(jax.grad(lambda x: clip.clip_pixels(x, how).sum()))(X)
    assert float(jnp.abs(gradient).min()) >= 0
    assert float(jnp.abs(gradient).max()) > 0


def test_a_folder_says_its_mean_and_deviation(tmp_path):
    assert preprocessing(tmp_path, 8) == clip.Preprocessing(8)
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.25] * 3}))
    assert preprocessing(tmp_path, 8) == clip.Preprocessing(8, (0.5,) * 3, (0.25,) * 3)
    for broken in ("[", "[]", '{"image_mean": [1, 2]}', '{"image_std": "x"}'):
        path.write_text(broken)
        with pytest.raises(WeightsError, match=r"preprocessor_config\.json"):
            preprocessing(tmp_path, 8)


def test_structure_distance_is_its_formula():
    x, y = (jnp.asarray(RANDOM.randn(2, 5, 9), jnp.float32) for _ in range(2))

    def similarity(k):
        k = k / np.linalg.norm(k, axis=-1, keepdims=True)
        return k @ k.T

    expected = [
        np.mean((similarity(np.asarray(a)) - similarity(np.asarray(b))) ** 2)
        for a, b in zip(x, y, strict=True)
    ]
    np.testing.assert_allclose(dino.structure_distance(x, y), expected, rtol=1e-4)
    np.testing.assert_allclose(dino.structure_distance(x, 3.0 * x), 0.0, atol=1e-10)


def test_pie_benchs_structure_forgets_to_divide():
    mean, std = np.asarray(dino.MEAN), np.asarray(dino.STD)
    flat = jnp.full((1, 40, 40, 3), 0.5)
    usual = dino.structure_pixels(flat, 32)
    np.testing.assert_allclose(usual[0, 0, 0], (0.5 - mean) / std, rtol=1e-5)
    compat = dino.structure_pixels(flat, 32, pie_compat=True)
    np.testing.assert_allclose(compat[0, 0, 0], (127.5 - mean) / std, rtol=1e-5)
    with pytest.raises(ValueError, match="40 x 30"):
        dino.structure_pixels(flat[:, :, :30])


def test_the_network_takes_one_size():
    module, params, _ = networks.dino_network()
    with pytest.raises(ValueError, match="takes 32 x 32"):
        dino.features(module, params, jnp.zeros((1, 40, 40, 3)))
    assert dino.crop_pixels(X[:1], 32).shape == (1, 32, 32, 3)


def test_pie_bench_divides_by_all_pixels():
    half = jnp.zeros(X.shape[:3]).at[:, :20].set(1.0)
    inflated = pie.pie_psnr(X, Y, half) - masked_psnr(X, Y, half, peak=1.0)
    np.testing.assert_allclose(inflated, 10 * np.log10(2), atol=1e-3)
    everywhere = jnp.ones(X.shape[:3])
    np.testing.assert_allclose(pie.pie_psnr(X, Y, everywhere), psnr(X, Y, 1.0), rtol=1e-6)
    empty = half.at[1].set(0.0)
    for score in (pie.pie_mse, pie.pie_psnr, jax.jit(pie.pie_ssim)):
        assert np.isnan(score(X, Y, empty)).tolist() == [False, True]


def test_pie_benchs_lpips_is_of_pictures_filled_with_black():
    module, params, _ = networks.lpips_network("squeeze", networks.SHRINK)
    large = [jnp.asarray(pictures(2, 64, 64, 3, seed=s)) for s in (0, 1)]
    region = jnp.zeros((2, 64, 64)).at[0, :32].set(1.0)
    score = jax.jit(functools.partial(pie.pie_lpips, module))
    found = score(params, *large, region)
    outside = [a * region[..., None] + 0.3 * (1 - region[..., None]) for a in large]
    again = score(params, *(pie.filled(a, region) for a in outside), region)
    assert float(found[0]) == pytest.approx(float(again[0]), rel=1e-5)
    assert np.isnan(found[1])
