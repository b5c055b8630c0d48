"""Test-wide settings: CPU with simulated devices, a throw-away compile cache, no network."""

import os
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("IMAGIC_CACHE", tempfile.mkdtemp(prefix="imagic-cache-"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import jax
import numpy as np
import pytest

jax.config.update("jax_num_cpu_devices", 8)


def pytest_terminal_summary(terminalreporter):
    """Prints how far the networks are from the recorded PyTorch outputs, where that was tested."""
    errors = {}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in getattr(report, "user_properties", ()):
            if name == "parity":
                flavour, dtype, error = value
                row = errors.setdefault(flavour, {})
                row[dtype] = max(error, row.get(dtype, 0.0))
    if errors:
        terminalreporter.section("largest errors against PyTorch")
        terminalreporter.write_line(f"{'network':<56}{'float64':>10}{'float32':>10}")
    for flavour, row in sorted(errors.items()):
        cells = (f"{row[d]:.1e}" if d in row else "-" for d in ("float64", "float32"))
        terminalreporter.write_line(f"{flavour:<56}" + "".join(f"{c:>10}" for c in cells))


@pytest.fixture
def parity(record_property):
    """Function (flavour, ours, recorded) -> the largest error, which the summary shows."""

    def compare(flavour, ours, recorded):
        error = float(np.abs(ours - recorded).max())
        record_property("parity", (flavour, str(ours.dtype), error))
        return error

    return compare


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """The folder of a tiny random cascade: 16, 32 and 64 pixels."""
    import tiny

    return tiny.write_cascade(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_loaded(tiny_model):
    """The same, loaded."""
    from imagic_jax.backbones import registry

    return registry.load_cascade(tiny_model)
