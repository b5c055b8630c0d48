"""Metrics against what PyTorch's packages gave on small drawn networks.

`tests/parity/record_metrics.py` made the records; the full networks are compared in
`tests/parity/test_live_metrics.py`.
"""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import metric_networks as networks
import numpy as np
import pytest
from metric_networks import SHRINK, pictures

from imagic_jax.metrics import dino, lpips, psnr, ssim
from imagic_jax.metrics.fid import inception_features
from imagic_jax.metrics.resize import resize, to_bytes

RECORDED = np.load(Path(__file__).parents[1] / "fixtures" / "parity" / "metrics.npz")
X, Y = (jnp.asarray(pictures(2, 72, 64, 3, seed=s)) for s in (0, 1))


def agree(parity, name, ours, tolerance=5e-6):
    """The largest error, relative to the largest value, is in tolerance."""
    theirs = RECORDED[name]
    scale = np.abs(theirs).max()
    assert theirs.shape == ours.shape
    assert parity(f"metric {name} (recorded)", np.asarray(ours) / scale, theirs / scale) < tolerance


@pytest.mark.parametrize("net", ["alex", "vgg", "squeeze"])
def test_lpips(parity, net):
    module, params, _ = networks.lpips_network(net, SHRINK)
    given = (params, 2 * X - 1, 2 * Y - 1)
    agree(parity, f"lpips_{net}", jax.jit(functools.partial(lpips.lpips, module))(*given))
    ours = jax.jit(functools.partial(lpips.lpips_map, module))(*given)
    agree(parity, f"lpips_{net}_map", ours[:, ::8, ::8])
    mask = jnp.zeros(X.shape[:3]).at[:, 10:30, 5:50].set(1)
    mask = mask.at[1].set(0)
    masked = jax.jit(functools.partial(lpips.masked_lpips, module))(*given, mask)
    assert float(masked[0]) == pytest.approx(float(ours[0, 10:30, 5:50].mean()), rel=1e-4)
    assert np.isnan(masked[1])


def test_inception(parity):
    module, params, _ = networks.inception_network(SHRINK)

    def run(params, x):
        size = networks.INCEPTION_SIZE
        pixels = (resize(to_bytes(x), size, size, "bilinear-tf1") - 128) / 128
        return inception_features(module, params, pixels)

    agree(parity, "inception", jax.jit(run)(params, X))


def test_dino(parity):
    module, params, _ = networks.dino_network()
    pixels = jnp.asarray(2 * pictures(2, 32, 32, 3) - 1)
    out = jax.jit(functools.partial(dino.features, module))(params, pixels)
    agree(parity, "dino_cls", out.cls)
    agree(parity, "dino_keys", out.keys[:, ::4])


def test_pixels(parity):
    agree(parity, "psnr", jax.jit(functools.partial(psnr.psnr, peak=1.0))(X, Y))
    agree(parity, "ssim", jax.jit(ssim.ssim)(X, Y))
    agree(parity, "ssim_reflect", jax.jit(functools.partial(ssim.ssim, edges="reflect"))(X, Y))
