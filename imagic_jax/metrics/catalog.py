"""Every metric by name, with an identity that spells out all its options.

Published numbers are often not comparable because one name stands for many definitions. A row of
results stores the identity, such as

    clip_cos{model=clip-vit-large-patch14,resize=pil-bicubic-short224-crop,text=raw}

and tables refuse to mix them. CLIP's metrics take another pair after an `@`: `clip_i@my-clip`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.errors import UserError
from imagic_jax.metrics import definitions
from imagic_jax.metrics.contract import Pairs, checked
from imagic_jax.metrics.metric import Metric, Seen
from imagic_jax.metrics.networks import Networks
from imagic_jax.models.lpips import NETS
from imagic_jax.weights.single_files import MissingWeights


class Scores(NamedTuple):
    """Values of several metrics.

    Attributes:
        values: {name: one value per pair}; NaN where a metric is not defined.
        notes: a sentence for every metric that has such values, with their number.
    """

    values: dict[str, Float[np.ndarray, " b"]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Opened:
    """Metrics that can be worked out, and why others cannot.

    Attributes:
        metrics: those whose weights are there.
        missing: {name: what it wants}; these are left out of tables.
    """

    metrics: tuple[Metric, ...]
    missing: dict[str, str]
    networks: Networks = field(repr=False)

    def score(self, pairs: Pairs) -> Scores:
        """Scores pairs by all metrics that are there.

        Raises:
            UserError: the pairs are not what metrics take, or lack what one of them needs.
        """
        seen = Seen(checked(pairs), self.networks)
        values, notes = {}, []
        for metric in self.metrics:
            lacking = [n for n in metric.needs if getattr(pairs, n) is None]
            if lacking:
                raise UserError(f"{metric.name} needs {' and '.join(lacking)}, which is not given")
            try:
                found = np.asarray(metric.score(seen), np.float64)
            except ValueError as error:  # sizes that a metric does not take
                raise UserError(f"{metric.name}: {error}") from error
            values[metric.name] = found
            if count := int(np.isnan(found).sum()):
                notes.append(
                    f"{metric.name}: {count} of {len(found)} not defined, because "
                    f"{metric.undefined}"
                )
        return Scores(values, tuple(notes))


def open_metrics(names: Iterable[str], folder: str | Path | None = None) -> Opened:
    """Opens metrics by name.

    Args:
        names: of `CATALOG`; CLIP's may be followed by `@` and a pair's folder.
        folder: of the networks' weights (`--metric_weights`).

    Raises:
        UserError: an unknown name, or no such folder.
        WeightsError: a file is there but broken.
    """
    networks, ready, missing = Networks(folder), [], {}
    for name in dict.fromkeys(names):
        metric = find(name)
        try:
            metric.load(networks)
        except MissingWeights as error:
            missing[name] = str(error)
        else:
            ready.append(metric)
    return Opened(tuple(ready), missing, networks)


def find(name: str) -> Metric:
    """The metric of this name.

    Raises:
        UserError: there is none.
    """
    base, at, model = name.partition("@")
    if at and base in definitions.CLIP_METRICS and model:
        return definitions.CLIP_METRICS[base](name, model)
    if name not in CATALOG:
        raise UserError(f"there is no metric {name!r}; there are {', '.join(CATALOG)}")
    return CATALOG[name]


def _catalog() -> dict[str, Metric]:
    metrics = definitions.pixel_metrics()
    for net in NETS:
        metrics += definitions.lpips_metrics(net)
    for name, model in definitions.DEFAULT_PAIRS.items():
        metrics.append(definitions.CLIP_METRICS[name](name, model))
    metrics += definitions.dino_metrics() + definitions.pie_metrics()
    return {metric.name: metric for metric in metrics}


CATALOG = _catalog()
"""All metrics of pairs by name. Those of sets of pictures, FID and KID, are in `sets`."""
