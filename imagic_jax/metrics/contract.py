"""What metrics take, and what is said of pictures that are something else.

The functions of this package trust their arrays, as they must under `jit`. This is the gate before
them: every mistake has a sentence that names it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.errors import UserError

_SLACK = 1e-3  # by which a value may leave [0, 1]: the rounding of a resize or a decoder


class Pairs(NamedTuple):
    """Edits to be scored, one per row; what a metric needs and is not there is an error.

    Attributes:
        output: the edited pictures, in [0, 1].
        reference: what they are compared with (the sources, or the truth), in [0, 1].
        mask: (b, h, w), 1 where the picture may change.
        text: what the outputs should show.
        source_text: what the references show.
    """

    output: Any
    reference: Any = None
    mask: Any = None
    text: Sequence[str] | None = None
    source_text: Sequence[str] | None = None


def checked(pairs: Pairs) -> Pairs:
    """The same as float32 arrays of one size, and texts as tuples.

    Raises:
        UserError: pictures of other shapes, sizes or ranges, not finite; masks of other values; too
            few texts.
    """
    output = checked_pictures(pairs.output, "the outputs")
    reference = mask = None
    if pairs.reference is not None:
        reference = checked_pictures(pairs.reference, "the references")
        _same_size(output, reference)
    if pairs.mask is not None:
        mask = _checked_mask(pairs.mask, output.shape[:3])
    texts = (_checked_texts(pairs, name, len(output)) for name in ("text", "source_text"))
    return Pairs(output, reference, mask, *texts)


def checked_pictures(pictures: Any, what: str) -> Float[np.ndarray, "b h w 3"]:
    """Pictures as float32.

    Args:
        what: the beginning of what is said of them ("the outputs").

    Raises:
        UserError: they are not (b, h, w, 3) floating-point numbers in [0, 1].
    """
    array = np.asarray(pictures)
    if array.ndim != 4 or array.shape[3] != 3 or 0 in array.shape:
        raise UserError(
            f"{what} have shape {array.shape}; metrics take (pictures, height, width, 3)"
        )
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise UserError(f"{what} hold {array.dtype}; metrics take floats in [0, 1]: divide by 255")
    array = array.astype(np.float32)
    finite = np.isfinite(array).all(axis=(1, 2, 3))
    if not finite.all():
        bad = np.flatnonzero(~finite)
        raise UserError(
            f"{what}: picture {bad[0] + 1} of {len(array)} holds NaN or infinite values"
            + (f" ({len(bad)} do)" if len(bad) > 1 else "")
        )
    low, high = float(array.min()), float(array.max())
    if low < -_SLACK or high > 1.0 + _SLACK:
        raise UserError(f"{what} range from {low:g} to {high:g}; {_remedy(low, high)}")
    return np.clip(array, 0.0, 1.0)


def _remedy(low: float, high: float) -> str:
    """What to do about a range."""
    if high > 2.0 and low >= 0.0:
        return "metrics take [0, 1]: divide by 255"
    if low >= -1.0 - _SLACK and high <= 1.0 + _SLACK:
        return "metrics take [0, 1]: pictures of models are brought there by (x + 1) / 2"
    return "metrics take [0, 1]"


def _same_size(output: np.ndarray, reference: np.ndarray) -> None:
    if len(output) != len(reference):
        raise UserError(f"{len(output)} outputs, but {len(reference)} references")
    if output.shape != reference.shape:
        (h, w), (rh, rw) = output.shape[1:3], reference.shape[1:3]
        raise UserError(f"outputs of {h} x {w}, but references of {rh} x {rw}; resize one of them")


def _checked_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    array = np.asarray(mask)
    if array.shape != shape:
        raise UserError(f"masks have shape {array.shape}, but the pictures want {shape}")
    array = array.astype(np.float32)
    if not np.isin(array, (0.0, 1.0)).all():
        raise UserError("masks hold values other than 0 and 1")
    return array


def _checked_texts(pairs: Pairs, name: str, count: int) -> tuple[str, ...] | None:
    texts = getattr(pairs, name)
    if texts is None:
        return None
    if isinstance(texts, str) or len(texts) != count:
        found = "one text" if isinstance(texts, str) else f"{len(texts)} texts"
        raise UserError(f"{name}: {found} for {count} outputs")
    return tuple(texts)
