"""The T5 encoder against recorded PyTorch outputs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("x64", [False, True])
def test_matches_pytorch(recorded_t5, x64, parity):
    with jax.enable_x64(x64):
        case = recorded_t5(jnp.float64 if x64 else jnp.float32)
        ids, mask = case.args
        masked = np.asarray(case.module.apply({"params": case.params}, ids, mask))
        unmasked = np.asarray(case.module.apply({"params": case.params}, ids))
    assert masked.dtype == (np.float64 if x64 else np.float32)
    assert parity("t5_encoder", masked, case.outputs["out_last_hidden_state"]) < 2e-5
    assert np.abs(unmasked - case.outputs["out_no_mask"]).max() < 2e-5


def test_traces_in_bfloat16_under_strict_promotion(recorded_t5):
    case = recorded_t5()
    module = case.module.copy(dtype=jnp.bfloat16)
    with jax.numpy_dtype_promotion("strict"):
        out = jax.eval_shape(module.apply, {"params": case.params}, *case.args)
    assert out.dtype == jnp.bfloat16


def test_padding_changes_no_real_token(recorded_t5):
    case = recorded_t5()
    short = jnp.asarray([[7, 8, 1]])
    padded = jnp.asarray([[7, 8, 1, 0, 0]])
    alone = case.module.apply({"params": case.params}, short, jnp.ones_like(short))
    mask = jnp.asarray([[True, True, True, False, False]])
    among = case.module.apply({"params": case.params}, padded, mask)
    np.testing.assert_allclose(among[:, :3], alone, atol=1e-5)
