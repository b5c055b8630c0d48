"""Resizes against Pillow, whose bytes must come out to the bit."""

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image as pil

from imagic_jax.metrics import resize as rs

SIZES = [(50, 37), (64, 64), (13, 90), (300, 411)]


def noise(height, width):
    return np.random.RandomState(height).randint(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_bytes_are_pillows_to_the_bit(height, width):
    array = noise(height, width)
    to = rs.shorter_side_to(height, width, 40)
    theirs = np.asarray(pil.fromarray(array).resize(to[::-1], pil.Resampling.BICUBIC))
    ours = rs.resize_bytes(jnp.asarray(array[None], jnp.float32), *to)[0]
    np.testing.assert_array_equal(ours, theirs.astype(np.float32))


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize(
    ("kind", "filter_"),
    [("pil-bicubic", pil.Resampling.BICUBIC), ("bilinear-antialias", pil.Resampling.BILINEAR)],
)
def test_floats_are_pillows(height, width, kind, filter_):
    channel = noise(height, width)[..., 0].astype(np.float32)
    theirs = np.asarray(pil.fromarray(channel).resize((31, 57), filter_))
    ours = rs.resize(jnp.asarray(channel[None, :, :, None]), 57, 31, kind)[0, :, :, 0]
    np.testing.assert_allclose(ours, theirs, atol=2e-4)


@pytest.mark.parametrize("kind", ["pil-bicubic", "bicubic", "bilinear-antialias", "bilinear"])
def test_what_is_flat_stays_flat_and_weights_sum_to_one(kind):
    for size, out in ((40, 17), (17, 40), (9, 9)):
        weight = rs.taps(size, out, kind).weight
        np.testing.assert_allclose(weight.sum(axis=1), 1.0, atol=1e-12)


def test_tensorflows_bilinear_begins_at_corners():
    row = jnp.arange(4.0).reshape(1, 1, 4, 1)
    enlarged = rs.resize(row, 1, 8, "bilinear-tf1")[0, 0, :, 0]
    np.testing.assert_allclose(enlarged, [0, 0.5, 1, 1.5, 2, 2.5, 3, 3])
    centred = rs.resize(row, 1, 8, "bilinear")[0, 0, :, 0]
    np.testing.assert_allclose(centred, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3])


def test_the_crop_is_torchvisions():
    assert rs.shorter_side_to(1045, 1046, 224) == (224, 224)
    assert rs.shorter_side_to(411, 300, 224) == (306, 224)
    x = jnp.arange(7.0 * 9.0).reshape(1, 7, 9, 1)
    cut = rs.centre_crop(x, 4)  # (7 - 4) / 2 = 1.5 is rounded to 2, (9 - 4) / 2 = 2.5 to 2
    assert (cut[0, 0, 0, 0], cut.shape) == (x[0, 2, 2, 0], (1, 4, 4, 1))


def test_bytes_of_a_picture():
    np.testing.assert_array_equal(
        rs.to_bytes(jnp.asarray([[[[-0.1, 0.5 / 255 + 1e-6, 1.2]]]]))[0, 0, 0], [0, 1, 255]
    )
