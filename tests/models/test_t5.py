"""The T5 encoder against recorded PyTorch outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("x64", [False, True])
def test_matches_pytorch(recorded_t5, x64):
    with jax.enable_x64(x64):
        case = recorded_t5(jnp.float64 if x64 else jnp.float32)
        ids, mask = case.args
        masked = np.asarray(case.module.apply({"params": case.params}, ids, mask))
        unmasked = np.asarray(case.module.apply({"params": case.params}, ids))
    assert np.abs(masked - case.outputs["out_last_hidden_state"]).max() < 2e-5
    assert np.abs(unmasked - case.outputs["out_no_mask"]).max() < 2e-5
