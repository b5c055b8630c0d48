"""PSNR against its definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.metrics.psnr import CAP, masked_psnr, psnr

ZERO = jnp.zeros((1, 4, 4, 3))


def test_a_constant_error_has_a_known_psnr():
    assert float(psnr(ZERO, ZERO + 0.2)[0]) == pytest.approx(20.0, abs=1e-4)  # peak 2
    assert float(psnr(ZERO, ZERO + 0.1, peak=1.0)[0]) == pytest.approx(20.0, abs=1e-4)
    assert float(psnr(ZERO, ZERO)[0]) == CAP


def test_a_mask_takes_the_mean_over_its_own_pixels():
    mask = jnp.zeros((1, 4, 4)).at[0, 0, 0].set(1.0)
    other = ZERO.at[0, 0, 0].set(0.2)
    assert float(masked_psnr(ZERO, other, mask)[0]) == pytest.approx(20.0, abs=1e-4)
    assert float(masked_psnr(ZERO, other, 1.0 - mask)[0]) == CAP
    assert np.isnan(float(masked_psnr(ZERO, other, 0.0 * mask)[0]))
