"""The UNet against recorded PyTorch outputs in every flavour, and its dtypes and errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

FLAVOURS = ("sd1", "sd2", "sdxl", "x4", "if_i", "if_ii", "if_ii_only_cross")
QUICK = {"xla_backend_optimization_level": 0}  # compiles in half the time


def _apply(case, *args):
    args = args or case.args
    apply = jax.jit(case.module.apply, compiler_options=QUICK)
    return np.asarray(apply({"params": case.params}, *args, **case.kwargs))


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_matches_pytorch_in_float64(recorded_unet, flavour, parity):
    """Only float64 tells a wrong epsilon (4e-6) from rounding."""
    with jax.enable_x64(True):
        case = recorded_unet(flavour, jnp.float64)
        out = _apply(case)
    assert out.dtype == np.float64
    assert parity(flavour, out, case.outputs["out_out_f64"]) < 5e-7


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_matches_pytorch_in_float32(recorded_unet, flavour, parity):
    case = recorded_unet(flavour)
    assert parity(flavour, _apply(case), case.outputs["out_out"]) < 2e-5


@pytest.mark.parametrize("flavour", ["sdxl", "x4", "if_ii"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_traces_under_strict_promotion(recorded_unet, flavour, dtype):
    case = recorded_unet(flavour)
    apply = case.module.copy(dtype=dtype).apply
    with jax.numpy_dtype_promotion("strict"):
        out = jax.eval_shape(apply, {"params": case.params}, *case.args, **case.kwargs)
    assert out.dtype == jnp.float32


@pytest.mark.parametrize("added_kv", [False, True])
def test_gradients_of_a_bfloat16_network_are_float32(small_unet, added_kv):
    case = small_unet(added_kv, jnp.bfloat16)

    def loss(params, text):
        out = case.module.apply({"params": params}, *case.args[:2], text)
        return jnp.square(out).mean()

    with jax.numpy_dtype_promotion("strict"):
        gradients = jax.eval_shape(jax.grad(loss, (0, 1)), case.params, case.args[2])
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_bfloat16_computes_close_to_float32_and_answers_in_the_samples_dtype(small_unet):
    case = small_unet(added_kv=True)
    low = _apply(small_unet(added_kv=True, dtype=jnp.bfloat16))
    assert low.dtype == np.float32
    assert 1e-4 < np.abs(low - _apply(case)).max() < 0.1


def test_one_timestep_serves_the_batch(small_unet):
    case = small_unet(added_kv=False)
    sample, _, text = case.args
    one, each = (_apply(case, sample, jnp.asarray(t), text) for t in (999, [999, 999]))
    np.testing.assert_array_equal(one, each)


@pytest.mark.parametrize("added_kv", [False, True])
def test_gradients_in_a_scan_are_those_outside(small_unet, added_kv):
    case = small_unet(added_kv)

    def gradient(params, sample):
        def loss(params):
            out = case.module.apply({"params": params}, sample, *case.args[1:])
            return jnp.square(out).mean()

        return jax.grad(loss)(params)

    def both(params, sample):
        scanned = jax.lax.scan(lambda c, x: (c, gradient(params, x)), 0, sample[None])[1]
        return gradient(params, sample), jax.tree.map(lambda g: g[0], scanned)

    alone, scanned = jax.jit(both, compiler_options=QUICK)(case.params, case.args[0])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), alone, scanned)


def test_inputs_that_do_not_fit_are_named(recorded_unet):
    x4, sdxl, sd1 = (recorded_unet(name) for name in ("x4", "sdxl", "sd1"))
    sample, timestep, text = x4.args
    with pytest.raises(ValueError, match="needs class_labels"):
        x4.module.apply({"params": x4.params}, sample, timestep, text)
    with pytest.raises(ValueError, match="takes 7 input channels, got 4"):
        _apply(x4, sample[..., :4], timestep, text)
    with pytest.raises(ValueError, match="multiples of 4"):
        _apply(x4, sample[:, :10], timestep, text)
    with pytest.raises(ValueError, match="needs text_embeds"):
        sdxl.module.apply({"params": sdxl.params}, *sdxl.args)
    with pytest.raises(ValueError, match="does not take class_labels"):
        sd1.module.apply({"params": sd1.params}, *sd1.args, class_labels=jnp.zeros(2, jnp.int32))
