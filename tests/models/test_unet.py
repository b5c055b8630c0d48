"""The UNet against recorded PyTorch outputs, in every flavour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FLAVOURS = ("sd1", "sd2", "sdxl", "x4", "if_i", "if_ii", "if_ii_only_cross")


def _run(case):
    apply = jax.jit(lambda p: case.module.apply({"params": p}, *case.args, **case.kwargs))
    return np.asarray(apply(case.params))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_matches_pytorch_in_float64(recorded_unet, flavour):
    """Only float64 tells a wrong epsilon (4e-6) from rounding."""
    with jax.enable_x64(True):
        case = recorded_unet(flavour, jnp.float64)
        out = _run(case)
    assert out.dtype == np.float64
    assert np.abs(out - case.outputs["out_out_f64"]).max() < 5e-7


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_matches_pytorch_in_float32(recorded_unet, flavour):
    case = recorded_unet(flavour)
    assert np.abs(_run(case) - case.outputs["out_out"]).max() < 2e-5
