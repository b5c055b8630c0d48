"""Measures why `models/conv.py` has its own gradients: GFLOP/s inside a loop, XLA's against ours.

    python benchmarks/conv_gradients.py --json=conv.json

For a table of shapes it prints the forward convolution, the gradient for the input and the
gradient for the kernel, then the time of one whole training step of a small UNet (DeepFloyd IF's
kind, value and gradient and Adam) with XLA's gradients and with ours. Everything runs inside a
compiled loop, where XLA's CPU backend takes its slow path (jax-ml/jax#12868).

Times are the least of several repeats. Beside GFLOP/s by the clock stand GFLOP/s by the CPU time
that the process used, times its cores: on a machine shared with others only that is steady.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import jax
import jax.numpy as jnp
import optax
from absl import app, flags

from imagic_jax.models import UNet2DCondition, UNetConfig, conv

_JSON = flags.DEFINE_string("json", None, "Also write the numbers to this file.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Repeats, of which the fastest counts.", 1)
_BATCH = flags.DEFINE_integer("batch", 16, "Pictures in a training step.", 1)
_STEP = flags.DEFINE_bool("step", True, "Measure the whole training step too.")
_XLA_STEP = flags.DEFINE_bool("xla_step", True, "Measure the step with XLA's gradients (slow).")
_SECONDS = flags.DEFINE_float("seconds", 0.3, "Aimed-at length of one repeat of a shape.", 0.0)

# batch, size, channels in, channels out, stride
SHAPES = (
    (32, 16, 96, 96, 1),
    (16, 16, 288, 96, 1),
    (32, 8, 192, 192, 1),
    (32, 4, 256, 256, 1),
    (8, 32, 32, 32, 1),
    (8, 32, 64, 64, 1),
    (1, 16, 256, 256, 1),
    (32, 16, 96, 96, 2),
)

CONFIG = {
    "sample_size": 16,
    "in_channels": 12,
    "out_channels": 12,
    "act_fn": "gelu",
    "norm_num_groups": 32,
    "block_out_channels": [96, 192, 256],
    "layers_per_block": 2,
    "attention_head_dim": 32,
    "cross_attention_dim": 192,
    "cross_attention_norm": "group_norm",
    "addition_embed_type": "text",
    "addition_embed_type_num_heads": 4,
    "encoder_hid_dim": 128,
    "resnet_time_scale_shift": "scale_shift",
    "down_block_types": ["SimpleCrossAttnDownBlock2D"] * 2 + ["ResnetDownsampleBlock2D"],
    "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    "up_block_types": ["ResnetUpsampleBlock2D"] + ["SimpleCrossAttnUpBlock2D"] * 2,
}


def fastest(run: Callable[[int], jax.Array], flop: float, seconds: float) -> dict[str, float]:
    """Times `run(n)`, which does the work n times in some seconds: time and GFLOP/s of one."""
    run(1).block_until_ready()
    started = time.perf_counter()
    run(1).block_until_ready()
    once = time.perf_counter() - started
    count = max(1, min(1000, round(seconds / once)))
    wall, cpu = [], []
    for _ in range(_REPEATS.value):
        started, used = time.perf_counter(), time.process_time()
        run(count).block_until_ready()
        wall.append((time.perf_counter() - started) / count)
        cpu.append((time.process_time() - used) / count)
    return {
        "seconds": min(wall),
        "gflops": flop / min(wall) / 1e9,
        "gflops_by_cpu_time": flop / min(cpu) / 1e9 * len(os.sched_getaffinity(0)),
    }


def looped(function: Callable[..., jax.Array], *arrays: jax.Array) -> Callable[[int], jax.Array]:
    """n -> `function` computed n times in one compiled loop."""

    @jax.jit
    def run(count: jax.Array, arrays: tuple[jax.Array, ...]) -> jax.Array:
        def body(_: jax.Array, carry: jax.Array) -> jax.Array:
            # The carry goes into every operand, so that nothing can be moved out of the loop.
            return function(*(a + carry for a in arrays)).sum() * 1e-9

        return jax.lax.fori_loop(0, count, body, jnp.float32(0))

    return lambda count: run(jnp.asarray(count), arrays)


def measure_shape(shape: tuple[int, int, int, int, int]) -> dict[str, dict[str, float]]:
    """Forward and both gradients of a 3x3 convolution of this shape."""
    batch, size, channels, features, stride = shape
    keys = jax.random.split(jax.random.key(0), 3)
    x = jax.random.normal(keys[0], (batch, size, size, channels))
    kernel = jax.random.normal(keys[1], (3, 3, channels, features))
    g = jax.random.normal(keys[2], (batch, size // stride, size // stride, features))
    options = {"stride": stride, "padding": 1}
    flop = 2 * 9 * channels * g.size
    cases = {
        "forward": (lambda x, k: conv.xla_conv(x, k, **options), x, kernel),
        "input_xla": (lambda k, g: conv.xla_input_gradient(x, k, g, **options), kernel, g),
        "input_ours": (lambda k, g: conv.input_gradient(x, k, g, **options), kernel, g),
        "kernel_xla": (lambda x, g: conv.xla_kernel_gradient(x, kernel, g, **options), x, g),
        "kernel_ours": (lambda x, g: conv.kernel_gradient(x, kernel, g, **options), x, g),
    }
    return {name: fastest(looped(*case), flop, _SECONDS.value) for name, case in cases.items()}


def measure_step(batch: int) -> dict[str, float]:
    """One training step of the small UNet; its FLOP are taken as three times the forward's."""
    config = UNetConfig.from_dict(CONFIG)
    module = UNet2DCondition(config)
    size, key = config.sample_size, jax.random.key(0)
    x = jax.random.normal(key, (batch, size, size, config.in_channels))
    t = jnp.linspace(0, 999, batch)
    text = jax.random.normal(key, (batch, 24, config.text_dim))
    params = jax.jit(module.init)(key, x, t, text)["params"]
    optimizer = optax.adam(1e-4)

    def loss(params: optax.Params, x: jax.Array) -> jax.Array:
        return jnp.square(module.apply({"params": params}, x, t, text) - x).mean()

    @jax.jit
    def run(count: jax.Array, params: optax.Params, state: optax.OptState) -> jax.Array:
        def step(i: jax.Array, carry: tuple) -> tuple:
            params, state, _ = carry
            value, gradient = jax.value_and_grad(loss)(params, x + i * 1e-3)
            updates, state = optimizer.update(gradient, state, params)
            return optax.apply_updates(params, updates), state, value

        return jax.lax.fori_loop(0, count, step, (params, state, jnp.float32(0)))[2]

    forward = jax.jit(module.apply).lower({"params": params}, x, t, text).compile()
    state = optimizer.init(params)
    flop = 3 * forward.cost_analysis()["flops"]
    # several steps at a time: entering the loop copies parameters and state
    return fastest(lambda count: run(jnp.asarray(count), params, state), flop, 5.0)


def main(argv: list[str]) -> None:
    """Prints the tables."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments: {argv[1:]}")
    results = {"device": jax.devices()[0].device_kind, "jax": jax.__version__, "shapes": []}
    print("GFLOP/s in a loop (by CPU time): batch, size, channels in -> out, stride")
    for shape in SHAPES:
        numbers = measure_shape(shape)
        results["shapes"].append({"shape": shape} | numbers)
        row = "  ".join(
            f"{name} {n['gflops']:.0f} ({n['gflops_by_cpu_time']:.0f})"
            for name, n in numbers.items()
        )
        print("{} x {}^2 x {} -> {}, /{}".format(*shape), row, sep=":  ", flush=True)
    if _STEP.value:
        print(f"training step of a small UNet, {_BATCH.value} pictures")
        results["step"] = {"batch": _BATCH.value, "ours": measure_step(_BATCH.value)}
        if _XLA_STEP.value:
            with mock.patch.object(conv, "_conv", conv.xla_conv):
                results["step"]["xla"] = measure_step(_BATCH.value)
        for name in ("ours", "xla"):
            if n := results["step"].get(name):
                print(
                    f"{name}: {n['seconds']:.2f} s, {n['gflops']:.0f} GFLOP/s "
                    f"({n['gflops_by_cpu_time']:.0f} by CPU time)"
                )
    if _JSON.value:
        Path(_JSON.value).write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    app.run(main)
