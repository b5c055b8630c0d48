"""Records what PyTorch's metrics give on small drawn networks, for the tests that run without it.

    PYTHONPATH=tests:tests/parity python tests/parity/record_metrics.py

writes tests/fixtures/parity/metrics.npz. The weights are not in it: NumPy draws them again by name.
"""

from pathlib import Path

import metric_networks as networks
import numpy as np
from live import torch
from live_metrics import (
    bytes_of,
    dino_reference,
    fidelity_module,
    inception_reference,
    lpips_reference,
    nchw,
)
from metric_networks import SHRINK, pictures

OUT = Path(__file__).parents[1] / "fixtures" / "parity" / "metrics.npz"


def recorded():
    """{name: array}."""
    found = {}
    x, y = (pictures(2, 72, 64, 3, seed=s) for s in (0, 1))
    with torch.no_grad():
        for net in ("alex", "vgg", "squeeze"):
            model = lpips_reference(net, SHRINK)
            both = [2 * nchw(a) - 1 for a in (x, y)]
            found[f"lpips_{net}"] = model(*both)[:, 0, 0, 0].numpy()
            model.spatial = True
            found[f"lpips_{net}_map"] = model(*both)[:, 0, ::8, ::8].numpy()
        model = inception_reference(networks.INCEPTION_SIZE, SHRINK)
        found["inception"] = model(bytes_of(x))[0].numpy()
        pixels = 2 * pictures(2, 32, 32, 3) - 1
        run = dino_reference(networks.SMALL_DINO, networks.dino_network()[2])
        found["dino_cls"], keys = run(nchw(pixels))
        found["dino_keys"] = keys[:, ::4]
        found |= of_pixels(x, y)
    return found


def of_pixels(x, y):
    """Those of torchmetrics and scikit-image that have no network."""
    fidelity_module("helpers")
    from skimage.metrics import structural_similarity
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    x, y = x.astype(np.float64), y.astype(np.float64)
    rows = [(nchw(x[i : i + 1]), nchw(y[i : i + 1])) for i in range(len(x))]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    options |= {"channel_axis": -1, "data_range": 1.0}
    return {
        "psnr": np.asarray([float(peak_signal_noise_ratio(*r, data_range=1.0)) for r in rows]),
        "ssim_reflect": np.asarray(
            [float(structural_similarity_index_measure(*r, data_range=1.0)) for r in rows]
        ),
        "ssim": np.asarray(
            [structural_similarity(a, b, **options) for a, b in zip(x, y, strict=True)]
        ),
    }


if __name__ == "__main__":
    arrays = {name: np.asarray(value, np.float32) for name, value in recorded().items()}
    np.savez_compressed(OUT, **arrays)
    print(f"{OUT}: {len(arrays)} arrays, {OUT.stat().st_size} bytes")
