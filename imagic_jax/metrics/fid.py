"""FID (Heusel et al. 2017) and KID (Binkowski et al. 2018) of two sets of pictures.

FID of few pictures is meaningless (two sets of 100 from one 64-dimensional Gaussian are 22 apart,
of 5,000 still 0.4) and must only be compared at equal numbers; KID is unbiased. Both are worked out
in float64 on the host, which float32 does not carry for 2048 x 2048 covariances.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.metrics.resize import Kind, resize, to_bytes
from imagic_jax.models.inception import SIZE, FIDInception
from imagic_jax.typing import Params

Resizing = Literal["clean", "pytorch-fid", "torchmetrics", "tf1"]
"""The programs whose resize is meant: clean-fid (Pillow's bicubic in floating point), pytorch-fid
(bilinear), torchmetrics (bilinear, antialiased), torch-fidelity (TensorFlow 1's bilinear)."""
_KINDS: dict[Resizing, Kind] = {
    "clean": "pil-bicubic",
    "pytorch-fid": "bilinear",
    "torchmetrics": "bilinear-antialias",
    "tf1": "bilinear-tf1",
}


def inception_pixels(
    pictures: Float[Array, "b h w 3"], resizing: Resizing = "clean"
) -> Float[Array, "b 299 299 3"]:
    """Pictures in [0, 1], rounded to 8 bits, as the network takes them.

    pytorch-fid maps 255 to 1, the others follow TensorFlow's graph: (x - 128) / 128.
    """
    pixels = resize(to_bytes(pictures), SIZE, SIZE, _KINDS[resizing])
    if resizing == "clean":
        pixels = jnp.clip(pixels, 0.0, 255.0)
    if resizing == "pytorch-fid":
        return 2.0 * (pixels / 255.0) - 1.0
    return (pixels - 128.0) / 128.0


def inception_features(
    module: FIDInception, params: Params, pixels: Float[Array, "b h w 3"]
) -> Float[Array, "b p"]:
    """The 2048 features (`pool3`) of what `inception_pixels` gave."""
    with jax.default_matmul_precision("float32"):
        features: Any = module.apply({"params": params}, pixels)
    return features


class Moments(NamedTuple):
    """Mean and covariance of a set's features."""

    mean: Float[np.ndarray, " p"]
    covariance: Float[np.ndarray, "p p"]


def moments(features: Float[np.ndarray, "n p"]) -> Moments:
    """Sample mean and (n - 1) covariance in float64.

    Raises:
        ValueError: fewer than two rows.
    """
    rows = _checked(features)
    return Moments(rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))


def fid(x: Moments, y: Moments) -> float:
    """|mean_x - mean_y|^2 + tr(C_x + C_y - 2 (C_x C_y)^(1/2)), by two eigendecompositions.

    The trace of the root is the sum of the roots of C_x^(1/2) C_y C_x^(1/2), which is symmetric: no
    complex parts arise, and singular covariances (fewer pictures than features) do no harm.
    """
    value, vectors = np.linalg.eigh(x.covariance)
    root = vectors * np.sqrt(np.maximum(value, 0.0)) @ vectors.T
    inner = np.linalg.eigvalsh(root @ y.covariance @ root)
    cross = np.sqrt(np.maximum(inner, 0.0)).sum()
    apart = np.square(x.mean - y.mean).sum()
    return float(apart + np.trace(x.covariance) + np.trace(y.covariance) - 2.0 * cross)


class KID(NamedTuple):
    """A kernel distance with its standard error."""

    value: float
    error: float


def kid(x: Float[np.ndarray, "n p"], y: Float[np.ndarray, "m p"]) -> KID:
    """The unbiased squared MMD of two sets under the kernel (x.y / p + 1)^3, from all pairs.

    Args:
        x, y: features, at least three rows each.

    Returns:
        The value (it may be below zero) and its jackknife standard error.

    Raises:
        ValueError: fewer than three rows.
    """
    a, b = _checked(x, 3), _checked(y, 3)
    n, m = len(a), len(b)
    xx, yy, xy = (_row_sums(*pair) for pair in ((a, None), (b, None), (a, b)))
    yx = _row_sums(b, a)
    sxx, syy, sxy = xx.sum(), yy.sum(), xy.sum()
    value = sxx / (n * (n - 1)) + syy / (m * (m - 1)) - 2 * sxy / (n * m)
    # The value without row i of either set.
    no_x = (sxx - 2 * xx) / ((n - 1) * (n - 2)) + syy / (m * (m - 1))
    no_x -= 2 * (sxy - xy) / ((n - 1) * m)
    no_y = sxx / (n * (n - 1)) + (syy - 2 * yy) / ((m - 1) * (m - 2))
    no_y -= 2 * (sxy - yx) / (n * (m - 1))
    variance = no_x.var() * (n - 1) + no_y.var() * (m - 1)
    return KID(float(value), float(np.sqrt(variance)))


def kid_of_subsets(
    x: Float[np.ndarray, "n p"],
    y: Float[np.ndarray, "m p"],
    subsets: int = 100,
    size: int = 1000,
    seed: int = 0,
) -> KID:
    """KID as torch-fidelity and torchmetrics report it: mean and deviation over random subsets.

    The deviation is of one subset, not of the mean.

    Raises:
        ValueError: a set has fewer than `size` rows.
    """
    a, b = _checked(x, size), _checked(y, size)
    rng = np.random.RandomState(seed)  # torch-fidelity draws from this one
    values = []
    for _ in range(subsets):
        one = a[rng.choice(len(a), size, replace=False)]
        other = b[rng.choice(len(b), size, replace=False)]
        within = (_row_sums(one).sum() + _row_sums(other).sum()) / (size * (size - 1))
        values.append(within - 2 * _row_sums(one, other).sum() / size**2)
    return KID(float(np.mean(values)), float(np.std(values)))


def _row_sums(a: np.ndarray, b: np.ndarray | None = None) -> np.ndarray:
    """Row sums of the kernel matrix, in blocks; without the diagonal where b is None."""
    other = a if b is None else b
    sums = []
    for start in range(0, len(a), 1024):
        kernel = (a[start : start + 1024] @ other.T / a.shape[1] + 1.0) ** 3
        if b is None:
            kernel[np.arange(len(kernel)), start + np.arange(len(kernel))] = 0.0
        sums.append(kernel.sum(axis=1))
    return np.concatenate(sums)


def _checked(features: np.ndarray, least: int = 2) -> np.ndarray:
    rows = np.asarray(features, np.float64)
    if len(rows) < least:
        raise ValueError(f"{len(rows)} pictures, but at least {least} are needed")
    if not np.isfinite(rows).all():
        raise ValueError("the features of some pictures are not finite")
    return rows
