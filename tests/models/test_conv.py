"""The convolution: its meaning, and its own gradients against XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.models.conv import (
    conv2d,
    input_gradient,
    kernel_gradient,
    xla_conv,
    xla_input_gradient,
    xla_kernel_gradient,
)

# height, width, channels in, channels out, kernel size, stride, padding
CASES = [
    (8, 8, 5, 7, 3, 1, 1),
    (8, 6, 5, 7, 3, 2, 1),
    (7, 9, 5, 7, 3, 2, 1),
    (8, 8, 5, 7, 1, 1, 0),
    (8, 8, 5, 7, 1, 2, 0),
    (8, 8, 5, 7, 3, 1, 0),
    (9, 9, 3, 4, 5, 3, 2),
]


def _arrays(case, dtype=np.float32, batch=2):
    height, width, channels, out, size, stride, padding = case
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(batch, height, width, channels)), dtype)
    kernel = jnp.asarray(rng.normal(size=(size, size, channels, out)), dtype)
    return x, kernel, stride, padding


def _gradients(conv, x, kernel, stride, padding):
    return jax.grad(lambda x, k: jnp.sin(conv(x, k, stride, padding)).sum(), (0, 1))(x, kernel)


def test_is_pytorchs_cross_correlation_with_zeros_on_all_sides():
    x, kernel, *_ = _arrays((5, 4, 2, 3, 3, 2, 1))
    padded = np.pad(np.asarray(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((2, 3, 2, 3))
    for i in range(3):
        for j in range(2):
            window = padded[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
            expected[:, i, j] = np.einsum("bhwc,hwco->bo", window, np.asarray(kernel))
    np.testing.assert_allclose(conv2d(x, kernel, 2, 1), expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("x64", [False, True])
def test_gradients_equal_xlas(case, x64):
    with jax.enable_x64(x64):
        arrays = _arrays(case, np.float64 if x64 else np.float32)
        ours, xlas = (jax.jit(_gradients, static_argnums=(0, 3, 4)) for _ in range(2))
        for a, b in zip(ours(conv2d, *arrays), xlas(xla_conv, *arrays), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-12 if x64 else 2e-4)


@pytest.mark.parametrize("case", CASES)
def test_both_platforms_gradients_are_the_same_functions(case):
    """The two branches themselves, so that the accelerators' one is run here as well."""
    x, kernel, stride, padding = _arrays(case)
    g = xla_conv(x, kernel, stride, padding)
    options = {"stride": stride, "padding": padding}
    for ours, xlas in (
        (input_gradient, xla_input_gradient),
        (kernel_gradient, xla_kernel_gradient),
    ):
        a, b = ours(x, kernel, g, **options), xlas(x, kernel, g, **options)
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-3)


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_many_channels_over_few_pixels_are_the_same_function(padding):
    """There all three are written as products on CPU."""
    with jax.enable_x64(True):
        x, kernel, *_ = _arrays((4, 5, 512, 520, 3, 1, padding), np.float64)
        np.testing.assert_allclose(
            jax.jit(conv2d, static_argnums=(2, 3))(x, kernel, 1, padding),
            xla_conv(x, kernel, 1, padding),
            atol=1e-10,
        )
        ours, xlas = (jax.jit(_gradients, static_argnums=(0, 3, 4)) for _ in range(2))
        for a, b in zip(
            ours(conv2d, x, kernel, 1, padding), xlas(xla_conv, x, kernel, 1, padding), strict=True
        ):
            np.testing.assert_allclose(a, b, atol=1e-9)


def test_many_channels_stay_a_convolution_on_accelerators():
    x, kernel, *_ = _arrays((4, 5, 512, 520, 3, 1, 1))
    gradient = jax.jit(jax.grad(lambda x, k: (conv2d(x, k, 1, 1) ** 2).sum(), (0, 1)))
    for platform, convolutions, products in (("cpu", 0, 3), ("cuda", 3, 0), ("tpu", 3, 0)):
        text = gradient.trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
        assert text.count("stablehlo.convolution") == convolutions
        assert text.count("stablehlo.dot_general") == products


def test_gradients_under_vmap_and_scan_equal_those_alone():
    x, kernel, stride, padding = _arrays((8, 8, 3, 4, 3, 1, 1))
    xs, kernels = jnp.stack([x, x + 1, 2 * x]), jnp.stack([kernel, -kernel, 3 * kernel])

    def gradients(x, kernel):
        return _gradients(conv2d, x, kernel, stride, padding)

    alone = [gradients(x, k) for x, k in zip(xs, kernels, strict=True)]
    expected = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    mapped = jax.jit(jax.vmap(gradients))(xs, kernels)
    scanned = jax.lax.scan(lambda c, xk: (c, gradients(*xk)), 0, (xs, kernels))[1]
    for got in (mapped, scanned):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), got, expected)


@pytest.mark.parametrize("check_vma", [True, False])
def test_gradients_under_shard_map_are_summed_over_the_data(check_vma):
    axis = (jax.sharding.AxisType.Auto,)
    mesh = jax.make_mesh((min(4, jax.device_count()),), ("sample",), axis_types=axis)
    data, whole = jax.sharding.PartitionSpec("sample"), jax.sharding.PartitionSpec()
    x, kernel, *_ = _arrays((8, 8, 3, 4, 3, 1, 1), batch=4)

    def gradients(x, kernel):
        dx, dkernel = _gradients(conv2d, x, kernel, 1, 1)
        return dx, dkernel if check_vma else jax.lax.psum(dkernel, "sample")

    sharded = jax.shard_map(
        gradients, mesh=mesh, in_specs=(data, whole), out_specs=(data, whole), check_vma=check_vma
    )
    for got, expected in zip(
        jax.jit(sharded)(x, kernel), _gradients(xla_conv, x, kernel, 1, 1), strict=True
    ):
        np.testing.assert_allclose(got, expected, atol=5e-4)


def _lowered(argnum, platform):
    x, kernel, *_ = _arrays((8, 8, 3, 4, 3, 1, 1))
    gradient = jax.grad(lambda x, k: (conv2d(x, k, 1, 1) ** 2).sum(), argnum)
    return jax.jit(gradient).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()


def test_only_the_cpu_gets_our_gradient():
    assert _lowered(1, "cpu").count("stablehlo.dot_general") == 9
    for platform in ("cuda", "tpu"):
        assert "stablehlo.dot_general" not in _lowered(1, platform)
        assert _lowered(1, platform).count("stablehlo.convolution") == 2


def test_an_unused_gradient_is_not_computed():
    """The embedding is optimised through a frozen network: no weight gradients there."""
    assert "stablehlo.dot_general" not in _lowered(0, "cpu")
