"""Our own functions mix no dtypes silently: they trace under strict promotion, in f32 and bf16."""

import functools

import jax
import jax.numpy as jnp
import metric_networks
import pytest
import tiny

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.generate import draw, seed_keys
from imagic_jax.diffusion.schedule import padded_grid
from imagic_jax.flatland import factors as fx
from imagic_jax.flatland import nuisance, splits
from imagic_jax.flatland.render import render
from imagic_jax.metrics.clip import clip_pixels
from imagic_jax.metrics.dino import crop_pixels, features, structure_distance, structure_pixels
from imagic_jax.metrics.fid import inception_features, inception_pixels
from imagic_jax.metrics.lpips import masked_lpips
from imagic_jax.metrics.pie import pie_ssim
from imagic_jax.metrics.psnr import masked_mse, masked_psnr, mse, psnr
from imagic_jax.metrics.ssim import masked_ssim, ssim

SHAPE = jax.ShapeDtypeStruct


@pytest.fixture(autouse=True)
def strict():
    with jax.numpy_dtype_promotion("strict"):
        yield


def shapes(tree, dtype):
    return jax.tree.map(lambda a: SHAPE(a.shape, dtype), tree)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_stages_loss(tiny_loaded, index, dtype):
    stage = tiny_loaded.cascade.stages[index]
    params = shapes(tiny_loaded.params["stages"][index], dtype)
    cond = Cond(SHAPE((1, tiny.LENGTH, tiny.WIDTH), jnp.float32))
    image = SHAPE((1, 64, 64, 3), jnp.float32) if index else None
    x0 = SHAPE(stage.sample_shape(1), jnp.float32)
    out = jax.eval_shape(
        lambda p, x0, cond, low, key: stage.loss(p, x0, cond, low, key, 3),
        params,
        x0,
        cond,
        image,
        jax.random.key(0),
    )
    assert out.dtype == jnp.float32


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_drawing(tiny_loaded, guided, sampler):
    stage, params = tiny_loaded.cascade.stages[1], tiny_loaded.params["stages"][1]
    cond = Cond(SHAPE((2, tiny.LENGTH, tiny.WIDTH), jnp.float32))
    low = SHAPE((2, 16, 16, 3), jnp.float32)
    run = functools.partial(draw, stage, guided=guided, sampler=sampler)
    levels, count = padded_grid(stage.schedule, 4)
    keys = seed_keys([0, 1], 1)
    out = jax.eval_shape(run, params, cond, cond, low, keys, jnp.float32(2.0), levels, count)
    assert out.shape == (2, 32, 32, 3)
    assert out.dtype == jnp.float32


def test_the_renderer():
    f = jax.tree.map(lambda a: a[0], splits.as_arrays([fx.make(cls="dog")]))
    out = jax.eval_shape(lambda f, key: render(f, nuisance.sample(key), 16), f, jax.random.key(0))
    assert out.dtype == jnp.float32


def test_metrics():
    x, mask = SHAPE((2, 64, 64, 3), jnp.float32), SHAPE((2, 64, 64), jnp.float32)
    for metric in (psnr, mse, ssim):
        assert jax.eval_shape(metric, x, x).dtype == jnp.float32
    for metric in (masked_psnr, masked_mse, masked_ssim, pie_ssim):
        assert jax.eval_shape(metric, x, x, mask).dtype == jnp.float32
    for prepare in (clip_pixels, structure_pixels, crop_pixels, inception_pixels):
        assert jax.eval_shape(prepare, x).dtype == jnp.float32


def test_networks_of_metrics():
    x, mask = SHAPE((2, 64, 64, 3), jnp.float32), SHAPE((2, 64, 64), jnp.float32)
    for net in ("alex", "squeeze"):
        module, params, _ = metric_networks.lpips_network(net, 16)
        score = functools.partial(masked_lpips, module)
        assert jax.eval_shape(score, params, x, x, mask).dtype == jnp.float32
    module, params, _ = metric_networks.dino_network()
    small = SHAPE((2, 32, 32, 3), jnp.float32)
    out = jax.eval_shape(functools.partial(features, module), params, small)
    assert jax.eval_shape(structure_distance, out.keys, out.keys).dtype == jnp.float32
    module, params, _ = metric_networks.inception_network(16)
    large = SHAPE((2, 75, 75, 3), jnp.float32)
    score = functools.partial(inception_features, module)
    assert jax.eval_shape(score, params, large).dtype == jnp.float32
