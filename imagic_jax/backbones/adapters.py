"""What is trained, as a value: a whole UNet, the part whose paths match a pattern, or LoRA.

`split` takes the trainable part out of a stage's parameters, `merge` puts it back; gradients flow
through `merge`, so models and editors have no branch for partial or low-rank training. Only the
stage's UNet is ever trained: an autoencoder beside it stays as it is.

LoRA (Hu et al. 2021, arXiv:2106.09685): kernel + A B with A (in, rank) and B (rank, out), B zero at
the start, scale 1 (alpha = rank). In a `Trainable` the two lie beside their kernel, as
".../to_q/lora_a" and ".../to_q/lora_b".
"""

import dataclasses
import re
from typing import Any

import jax
import jax.numpy as jnp
from flax import traverse_util

from imagic_jax.typing import Array, Params, PRNGKeyArray

#: A flat tree {path: array}: what optimizers see and what a `Fit` keeps.
Trainable = dict[str, Any]

_ROOT = "unet/"
_KERNEL, _A, _B = "/kernel", "/lora_a", "/lora_b"
#: The layers that LoRA changes where no pattern says otherwise: the attentions' projections.
LORA_TARGETS = r"(to_q|to_k|to_v|to_out_0|add_k_proj|add_v_proj)/kernel$"


@dataclasses.dataclass(frozen=True)
class TrainSpec:
    """Which parameters are trained.

    Attributes:
        pattern: a regular expression searched in paths like
            "unet/up_blocks_0/resnets_1/conv1/kernel"; "" chooses everything, with `rank`
            `LORA_TARGETS`.
        rank: 0 trains the parameters themselves; above, LoRA of this rank on the chosen kernels.
    """

    pattern: str = ""
    rank: int = 0


def split(
    params: Params, spec: TrainSpec, key: PRNGKeyArray | None = None
) -> tuple[Trainable, Params]:
    """(trainable, frozen): what is trained by path, and the whole tree as it was.

    Args:
        params: a stage's parameters, {"unet": ..., ...}.
        spec: see `TrainSpec`.
        key: draws LoRA's A; None leaves it zero, which shows shapes and names.

    Raises:
        ValueError: the pattern is no regular expression or matches nothing that can be trained.
    """
    pattern = spec.pattern or (LORA_TARGETS if spec.rank else "")
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is no regular expression: {error}") from error
    chosen = {
        path: a
        for path, a in flatten(params).items()
        if path.startswith(_ROOT) and wanted.search(path)
    }
    if spec.rank:
        chosen = {p: a for p, a in chosen.items() if p.endswith(_KERNEL) and len(a.shape) == 2}
    if not chosen:
        what = "linear kernel" if spec.rank else "parameter"
        raise ValueError(f"the pattern {pattern!r} matches no {what} of this model")
    if not spec.rank:
        return chosen, params
    trainable: Trainable = {}
    for i, (path, kernel) in enumerate(sorted(chosen.items())):
        stem, (rows, columns) = path.removesuffix(_KERNEL), kernel.shape
        rank = min(spec.rank, rows, columns)
        trainable[stem + _A] = _first_a(key, i, rows, rank)
        trainable[stem + _B] = jnp.zeros((rank, columns), jnp.float32)
    return trainable, params


def _first_a(key: PRNGKeyArray | None, index: int, rows: int, rank: int) -> Array:
    """Uniform in +-1 / sqrt(in), as PyTorch's LoRA starts."""
    if key is None:
        return jnp.zeros((rows, rank), jnp.float32)
    bound = rows**-0.5
    own = jax.random.fold_in(key, index)
    return jax.random.uniform(own, (rows, rank), jnp.float32, -bound, bound)


def merge(frozen: Params, trainable: Trainable) -> Params:
    """The parameter tree with the trained values in place; LoRA is added to its kernels.

    Raises:
        ValueError: a trained path that the tree does not have, or has in another shape.
    """
    flat = flatten(frozen)
    for path, value in trainable.items():
        if path.endswith(_A):
            stem = path.removesuffix(_A)
            # In float32, whatever the frozen kernel is kept in: small changes must not round away.
            value = _low_rank(path, value, trainable.get(stem + _B))
            path = stem + _KERNEL
            _check_fits(flat, path, value)
            flat[path] = flat[path].astype(jnp.float32) + value
        elif not (path.endswith(_B) and path.removesuffix(_B) + _A in trainable):
            _check_fits(flat, path, value)
            flat[path] = value
    return unflatten(flat)


def _low_rank(path: str, a: Array, b: Array | None) -> Array:
    if b is None or a.shape[1:] != b.shape[:1]:
        raise ValueError(f"trained parameter {path} does not fit this model: its B does not match")
    return a @ b


def _check_fits(flat: Trainable, path: str, value: Array) -> None:
    if path not in flat or flat[path].shape != value.shape:
        raise ValueError(f"trained parameter {path} does not fit this model")


def is_lora(trainable: Trainable) -> bool:
    """Whether this is LoRA, not new values of the parameters."""
    return any(path.endswith(_A) for path in trainable)


def flatten(params: Params) -> Trainable:
    """A parameter tree as {path: array}."""
    flat: Any = traverse_util.flatten_dict(params, sep="/")
    return dict(flat)


def unflatten(flat: Trainable) -> Params:
    """{path: array} as a parameter tree."""
    return traverse_util.unflatten_dict(flat, sep="/")
