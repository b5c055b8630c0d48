"""The table of chips, and this machine measured."""

import pytest

from imagic_jax.runtime import devices


@pytest.mark.parametrize(
    ("kind", "name", "tflops", "gbps", "gib"),
    [
        ("TPU v4", "TPU v4", 275, 1200, 32),
        ("TPU v5 lite", "TPU v5e", 197, 819, 16),
        ("TPU v5", "TPU v5p", 459, 2765, 95),
        ("TPU v5p", "TPU v5p", 459, 2765, 95),
        ("TPU v6 lite", "TPU v6e", 918, 1640, 32),
        ("NVIDIA A100-SXM4-40GB", "A100 40GB", 312, 1555, 37.25),
        ("NVIDIA A100-SXM4-80GB", "A100 80GB", 312, 2039, 74.5),
        ("NVIDIA H100 80GB HBM3", "H100", 989, 3350, 74.5),
        ("NVIDIA H200", "H200", 989, 4800, 131.3),
    ],
)
def test_chips_are_known_by_what_jax_calls_them(kind, name, tflops, gbps, gib):
    chip = devices.chip_of(kind)
    assert chip is not None
    assert chip.name == name
    assert chip.peak == pytest.approx(tflops * 1e12)
    assert chip.bandwidth == pytest.approx(gbps * 1e9)
    assert chip.memory / 2**30 == pytest.approx(gib, abs=0.05)
    assert chip.source


def test_longer_beginnings_come_first():
    kinds = list(devices.CHIPS)
    for i, kind in enumerate(kinds):
        assert not any(kind.startswith(before) for before in kinds[:i]), kind


def test_an_unknown_chip_is_none():
    assert devices.chip_of("TPU v99") is None


def test_the_cpu_is_measured():
    chip = devices.measured_cpu(width=256, repeats=1)
    assert 1e8 < chip.peak < 1e14
    assert 1e7 < chip.bandwidth < 1e13
    assert 2**30 < chip.memory < 2**44


def test_memory_in_use_is_this_process():
    assert 2**25 < devices.memory_in_use() <= devices.peak_memory() * 1.1
