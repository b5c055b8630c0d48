"""MSE and SSIM against closed forms and, where it is installed, scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from metric_networks import pictures

from imagic_jax.metrics.psnr import masked_mse, mse, psnr_of_mse
from imagic_jax.metrics.ssim import masked_ssim, ssim, ssim_map

X, Y = (jnp.asarray(pictures(2, 40, 33, 3, seed=s)) for s in (0, 1))


def test_the_mean_error_and_its_psnr():
    np.testing.assert_allclose(mse(X, X + 0.1), 0.01, rtol=1e-4)
    assert float(psnr_of_mse(jnp.float32(0.01))) == pytest.approx(20.0, abs=1e-5)
    # of the mean error it is another number than the mean
    errors = jnp.asarray([0.1, 0.001])
    assert float(psnr_of_mse(errors.mean())) < float(psnr_of_mse(errors).mean()) - 5.0


def test_a_masked_error_is_the_mean_over_the_region():
    mask = jnp.zeros(X.shape[:3]).at[:, 3:9, 4:8].set(1.0)
    inside = mse(X[:, 3:9, 4:8], Y[:, 3:9, 4:8])
    np.testing.assert_allclose(masked_mse(X, Y, mask), inside, rtol=1e-5)
    assert np.isnan(masked_mse(X, Y, 0.0 * mask)).all()


def test_ssim_of_constant_pictures_is_its_luminance_term():
    a, b, c1 = 0.2, 0.7, 0.01**2
    flat = jnp.ones((1, 12, 15, 3))
    expected = (2 * a * b + c1) / (a * a + b * b + c1)
    np.testing.assert_allclose(ssim(a * flat, b * flat), expected, rtol=1e-3)
    np.testing.assert_allclose(ssim(X, X), 1.0, atol=1e-6)


def test_ssim_of_one_window_is_its_formula():
    with jax.enable_x64(True):
        x, y = (np.asarray(a[:1, :11, :11], np.float64) for a in (X, Y))
        w = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
        w = np.outer(w, w)[None, :, :, None] / w.sum() ** 2
        mx, my = ((w * a).sum((1, 2)) for a in (x, y))
        vx, vy, vxy = ((w * p).sum((1, 2)) for p in (x * x, y * y, x * y))
        vx, vy, vxy = vx - mx**2, vy - my**2, vxy - mx * my
        expected = (2 * mx * my + 1e-4) * (2 * vxy + 9e-4)
        expected /= (mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)
        found = ssim_map(jnp.asarray(x), jnp.asarray(y))
        np.testing.assert_allclose(found[:, 0, 0], expected, rtol=1e-10)


def test_the_range_is_taken_into_account():
    np.testing.assert_allclose(ssim(255 * X, 255 * Y, peak=255.0), ssim(X, Y), rtol=1e-4)


def test_a_mask_takes_the_windows_that_it_covers():
    mask = jnp.zeros(X.shape[:3]).at[:, 2:20, 5:21].set(1.0)
    inside = ssim(X[:, 2:20, 5:21], Y[:, 2:20, 5:21])
    np.testing.assert_allclose(masked_ssim(X, Y, mask), inside, rtol=1e-5)
    np.testing.assert_allclose(masked_ssim(X, Y, jnp.ones_like(mask)), ssim(X, Y), rtol=1e-5)
    thin = jnp.zeros(X.shape[:3]).at[:, :, 5:15].set(1.0)  # narrower than the window
    assert np.isnan(masked_ssim(X, Y, thin)).all()


def test_pictures_smaller_than_the_window_are_refused():
    with pytest.raises(ValueError, match="10 x 33"):
        ssim(X[:, :10], Y[:, :10])
    assert ssim(X[:, :11], Y[:, :11]).shape == (2,)


def test_scikit_image_agrees(parity):
    metrics = pytest.importorskip("skimage.metrics")
    for x, y, ours in zip(X, Y, np.asarray(ssim(X, Y)), strict=True):
        theirs = metrics.structural_similarity(
            np.asarray(x),
            np.asarray(y),
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        assert parity("metric ssim (scikit-image)", ours, np.float32(theirs)) < 2e-6
