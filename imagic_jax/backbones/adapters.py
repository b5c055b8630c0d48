"""What is trained, as a value: everything, or the parameters whose path matches a pattern.

`split` takes the trainable part out of a parameter tree, `merge` puts it back; gradients flow
through `merge`, so models and editors have no branch for partial training.
"""

import dataclasses
import re
from typing import Any

from flax import traverse_util

from imagic_jax.typing import Array, Params

#: A flat tree {path: array}: what optimizers see and what a `Fit` keeps.
Trainable = dict[str, Array]


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """Which parameters are trained.

    Attributes:
        pattern: a regular expression searched in paths like "up_blocks_0/resnets_1/conv1/kernel".
    """

    pattern: str = ""


def split(params: Params, spec: TrainSpec) -> tuple[Trainable, Params]:
    """(trainable, frozen): the matching parameters by path, and the whole tree as it was.

    Raises:
        ValueError: the pattern is no regular expression or matches nothing.
    """
    try:
        wanted = re.compile(spec.pattern)
    except re.error as error:
        raise ValueError(
            f"the pattern {spec.pattern!r} is no regular expression: {error}"
        ) from error
    trainable = {path: a for path, a in flatten(params).items() if wanted.search(path)}
    if not trainable:
        raise ValueError(f"the pattern {spec.pattern!r} matches no parameter of this model")
    return trainable, params


def merge(frozen: Params, trainable: Trainable) -> Params:
    """The parameter tree with the trained values in place.

    Raises:
        ValueError: a trained path that the tree does not have, or has in another shape.
    """
    flat = flatten(frozen)
    for path, value in trainable.items():
        if path not in flat or flat[path].shape != value.shape:
            raise ValueError(f"trained parameter {path} does not fit this model")
        flat[path] = value
    return unflatten(flat)


def flatten(params: Params) -> Trainable:
    """A parameter tree as {path: array}."""
    flat: Any = traverse_util.flatten_dict(params, sep="/")
    return dict(flat)


def unflatten(flat: Trainable) -> Params:
    """{path: array} as a parameter tree."""
    return traverse_util.unflatten_dict(flat, sep="/")
