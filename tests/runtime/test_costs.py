"""FLOPs from a program's text against closed forms and published counts; XLA's counts."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from imagic_jax.backbones.contracts import Cond
from imagic_jax.jobs import models, parts, presets
from imagic_jax.runtime import costs, loop
from imagic_jax.runtime.devices import Chip


def test_products_count_two_per_multiply_and_add():
    a, b = jnp.zeros((3, 5, 7)), jnp.zeros((3, 7, 11))
    assert costs.flops(jnp.matmul, a, b) == 2 * 3 * 5 * 7 * 11


def test_convolutions_count_their_kernel_once_per_output():
    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (2, 2), [(1, 1)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    x, kernel = jnp.zeros((2, 8, 8, 3)), jnp.zeros((3, 3, 3, 5))
    assert costs.flops(conv, x, kernel) == 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)


def test_grouped_convolutions_count_their_own_channels():
    def conv(x, kernel):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (1, 1),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=4,
        )

    x, kernel = jnp.zeros((1, 8, 8, 4)), jnp.zeros((3, 3, 1, 4))
    assert costs.flops(conv, x, kernel) == 2 * (8 * 8 * 4) * 9


def test_scans_count_rounds_branches_the_costliest_whiles_once():
    a = jnp.zeros((4, 4))
    one = 2 * 4**3

    def scanned(a):
        return jax.lax.scan(lambda c, _: (c @ a, None), a, length=6)[0]

    def branched(a, which):
        return jax.lax.cond(which, lambda: a @ a @ a, lambda: a @ a)

    def looped(a, n):
        return jax.lax.fori_loop(0, n, lambda i, c: c @ a, a)

    assert costs.flops(scanned, a) == 6 * one
    assert costs.flops(branched, a, True) == 2 * one
    assert costs.flops(looped, a, 9) == one
    assert costs.flops(jax.checkpoint(jax.jit(lambda a: a @ a)), a) == one


# Counted by PyTorch's FlopCounterMode on diffusers' modules: TFLOP of a forward pass, batch 1.
@pytest.mark.parametrize(
    ("preset", "tflop"),
    [
        ("sd15", [0.803]),
        ("sd21", [2.149]),
        pytest.param("sdxl", [6.761], marks=pytest.mark.slow),
        pytest.param("deepfloyd_if_m", [0.229, 1.129, 4.529], marks=pytest.mark.slow),
        pytest.param("deepfloyd_if_xl", [2.879, 3.090, 4.529], marks=pytest.mark.slow),
    ],
)
def test_published_networks_have_their_published_flops(preset, tflop):
    config = presets.load_config(presets.find_preset(preset))
    opened, _ = models.open_preset(config, random_weights=True, platform="tpu")
    assert opened.cascade.stages[0].attention == "flash"  # whose arithmetic is in no text
    shapes = opened.stage_shapes()
    for stage, params, expected in zip(opened.cascade.stages, shapes, tflop, strict=True):
        unet = stage.unet.config
        states = jax.ShapeDtypeStruct((1, 77, unet.text_dim), jnp.float32)
        pooled = jax.ShapeDtypeStruct((1, unet.pooled_dim), jnp.float32)
        cond = Cond(states, pooled=pooled if unet.pooled_dim else None)
        counted = parts.forward_flops(stage, params, cond)
        assert counted / 1e12 == pytest.approx(expected, abs=6e-4)


def test_xla_counts_a_compiled_program():
    a = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    cost = costs.cost_of(jax.jit(lambda a: a @ a).lower(a).compile())
    assert cost.flops == pytest.approx(2 * 64**3, rel=0.01)
    assert cost.arguments == cost.outputs == 64 * 64 * 4
    assert cost.memory >= 2 * 64 * 64 * 4


def test_donated_arguments_are_not_counted_twice():
    a = jax.ShapeDtypeStruct((64, 64), jnp.float32)
    cost = costs.cost_of(jax.jit(lambda a: a + 1, donate_argnums=0).lower(a).compile())
    assert cost.reused == cost.outputs
    assert cost.memory == cost.arguments + cost.temporaries + cost.code


@dataclasses.dataclass(frozen=True)
class Halve:
    """A step whose state is one array."""

    def __call__(self, state, data, index):
        return 0.5 * state + data, state.sum()


def test_a_loop_works_in_its_state_s_own_memory():
    a = jax.ShapeDtypeStruct((128, 128), jnp.float32)
    cost = costs.cost_of(loop.lower(Halve(), a, a).compile())
    assert cost.reused == 128 * 128 * 4
    assert cost.outputs - cost.reused <= 4 * (loop.MAX_CHUNK + 16)  # the losses


def test_the_roofline_is_the_slower_of_two():
    chip = Chip(name="x", peak=100.0, bandwidth=10.0, memory=1, source="made up")
    cost = costs.Cost(1000.0, 50.0, 0, 0, 0, 0, 0)
    assert costs.roofline(cost, chip) == 10.0
    assert costs.roofline(cost._replace(accessed=500.0), chip) == 50.0
    assert costs.roofline(cost, chip, flops=3 * cost.flops) == 30.0  # where XLA does not see all


def test_the_loops_of_a_program_are_counted():
    def nested(a, n):
        def step(_, a):
            return jax.lax.scan(lambda c, _: (c @ a, None), a, length=3)[0]

        return jax.lax.fori_loop(0, n, step, a)

    assert costs.loops(jax.jit(nested).lower(jnp.zeros((2, 2)), 4)) == 2
    assert costs.loops(jax.jit(jnp.sin).lower(jnp.zeros((2, 2)))) == 0
