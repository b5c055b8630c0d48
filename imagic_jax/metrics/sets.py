"""FID and KID by name: metrics of two sets of pictures, with an identity as in `catalog`.

Features are worked out batch by batch, whatever the pictures' sizes, and compared at the end.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.errors import UserError
from imagic_jax.metrics import fid
from imagic_jax.metrics.contract import checked_pictures
from imagic_jax.metrics.metric import chunked
from imagic_jax.metrics.networks import Networks
from imagic_jax.weights.single_files import MissingWeights

Features = dict[str, np.ndarray]
"""Features of a set of pictures, (n, 2048), by the resize before the network."""

_pixels = jax.jit(fid.inception_pixels, static_argnums=1)
_features = jax.jit(fid.inception_features, static_argnums=0)


@dataclass(frozen=True)
class SetMetric:
    """FID or KID after one of the resizes."""

    kind: Literal["fid", "kid"]
    resizing: fid.Resizing

    @property
    def name(self) -> str:
        """What it is asked for by."""
        return f"{self.kind}_{self.resizing}"

    def identity(self, count: int) -> str:
        """The name with all options and the number of pictures, without which FID says nothing."""
        kernel = "" if self.kind == "fid" else ",kernel=cubic,estimate=unbiased,error=jackknife"
        return f"{self.name}{{net=inception-2015-12-05,features=2048{kernel},n={count}}}"


SETS = {
    metric.name: metric
    for kind in ("fid", "kid")
    for metric in (SetMetric(kind, r) for r in ("clean", "pytorch-fid", "torchmetrics", "tf1"))
}


@dataclass(frozen=True)
class OpenedSets:
    """Set metrics whose weights are there, and what others want."""

    metrics: tuple[SetMetric, ...]
    missing: dict[str, str]
    networks: Networks = field(repr=False)

    def features(self, pictures: Any, what: str = "the pictures") -> Features:
        """Features of pictures in [0, 1], (b, h, w, 3), for every resize that is asked for.

        Raises:
            UserError: the pictures are not what metrics take.
        """
        array = jnp.asarray(checked_pictures(pictures, what))
        run = functools.partial(_features, *self.networks.inception())
        resizings = dict.fromkeys(metric.resizing for metric in self.metrics)
        return {r: np.asarray(chunked(run, _pixels(array, r))) for r in resizings}

    def compare(self, outputs: Features, references: Features) -> dict[str, float]:
        """{name: value}; KID's standard error under `kid_..._se`.

        Raises:
            UserError: too few pictures.
        """
        found = {}
        for metric in self.metrics:
            x, y = outputs[metric.resizing], references[metric.resizing]
            try:
                if metric.kind == "fid":
                    found[metric.name] = fid.fid(fid.moments(x), fid.moments(y))
                else:
                    found[metric.name], found[f"{metric.name}_se"] = fid.kid(x, y)
            except ValueError as error:
                raise UserError(f"{metric.name}: {error}") from error
        return found


def together(parts: Iterable[Features]) -> Features:
    """Features of batches as those of one set."""
    listed = list(parts)
    return {r: np.concatenate([part[r] for part in listed]) for r in listed[0]}


def open_sets(names: Iterable[str], folder: str | Path | None = None) -> OpenedSets:
    """Opens set metrics by name; arguments and errors as `catalog.open_metrics`."""
    networks, ready, missing = Networks(folder), [], {}
    for name in dict.fromkeys(names):
        if name not in SETS:
            raise UserError(f"there is no metric {name!r} of sets; there are {', '.join(SETS)}")
        try:
            networks.inception()
        except MissingWeights as error:
            missing[name] = str(error)
        else:
            ready.append(SETS[name])
    return OpenedSets(tuple(ready), missing, networks)
