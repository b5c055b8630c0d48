"""Layout and resizing follow PyTorch's conventions, which shipped checkpoints were trained with."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.backbones import pixels

RECORDED = Path(__file__).parent.parent / "fixtures" / "parity" / "schedulers.npz"


def test_space_to_depth_orders_channels_as_pixel_unshuffle():
    """channel = c * p * p + row * p + column, written out as loops."""
    image = np.arange(2 * 4 * 6 * 3, dtype=np.float32).reshape(2, 4, 6, 3)
    moved = np.asarray(pixels.space_to_depth(jnp.asarray(image), 2))
    for y in range(2):
        for x in range(3):
            for c in range(3):
                for r in range(2):
                    for k in range(2):
                        np.testing.assert_array_equal(
                            moved[:, y, x, c * 4 + r * 2 + k], image[:, 2 * y + r, 2 * x + k, c]
                        )


@pytest.mark.parametrize("patch", [1, 2, 4])
def test_depth_to_space_is_the_inverse(patch):
    image = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    back = pixels.depth_to_space(pixels.space_to_depth(image, patch), patch)
    np.testing.assert_array_equal(back, image)


def test_upsampling_keeps_corners_and_is_exact_on_planes():
    y, x = jnp.mgrid[:5, :5].astype(jnp.float32)
    plane = (0.3 * y - 0.1 * x + 2.0)[None, :, :, None]
    big = pixels.upsample(plane, 13)
    yy, xx = jnp.mgrid[:13, :13] / 3.0
    np.testing.assert_allclose(big[0, :, :, 0], 0.3 * yy - 0.1 * xx + 2.0, atol=1e-5)
    assert float(big[0, -1, -1, 0]) == pytest.approx(float(plane[0, -1, -1, 0]), abs=1e-6)


def test_upsampling_of_noise_matches_pytorch():
    recorded = np.load(RECORDED)
    low, high = (recorded[n].transpose(0, 2, 3, 1) for n in ("lr", "lr_up_align"))
    np.testing.assert_allclose(pixels.upsample(jnp.asarray(low), 24), high, atol=1e-5)


def test_resizing_down_by_whole_factors_is_the_block_mean():
    image = jax.random.normal(jax.random.key(1), (1, 12, 12, 3))
    small = pixels.resize(image, 4)
    np.testing.assert_allclose(small[0, 1, 2], image[0, 3:6, 6:9].mean((0, 1)), atol=1e-6)
    np.testing.assert_array_equal(pixels.resize(image, 12), image)
    assert pixels.resize(image, 5).shape == (1, 5, 5, 3)
