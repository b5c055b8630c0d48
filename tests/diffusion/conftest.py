"""Recorded scheduler outputs of PyTorch diffusers."""

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def recorded():
    return np.load(Path(__file__).parent.parent / "fixtures" / "parity" / "schedulers.npz")
