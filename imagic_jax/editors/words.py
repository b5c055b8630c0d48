"""Which tokens of a source text belong to which of a target text (prompt-to-prompt).

Hertz et al. 2022, arXiv:2208.01626, and its code: words that are swapped one for one ("replace"),
or texts of which one says more than the other, aligned token by token ("refine").
"""

import string
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.contracts import Cascade
from imagic_jax.errors import UserError

Mode = Literal["auto", "replace", "refine"]
_MATCH, _MISMATCH, _GAP = 1, -1, 0


class Words(NamedTuple):
    """How the tokens of two texts belong together: arrays alone.

    Attributes:
        mapper: (source tokens, target tokens): what share of a source token's attention each target
            token takes over.
        own: 1 at target tokens that keep their own attention.
        scale: factors on the target tokens' attention.
        place: source and target tokens whose place in the picture is where it may change; all
            zeros where it may change everywhere.
    """

    mapper: Float[np.ndarray, "l l"]
    own: Float[np.ndarray, " l"]
    scale: Float[np.ndarray, " l"]
    place: Float[np.ndarray, "2 l"]


class Text(NamedTuple):
    """A text's tokens. `words` are (start, end) in `ids`, in order."""

    ids: np.ndarray
    length: int  # without padding
    words: dict[str, list[tuple[int, int]]]
    order: list[tuple[str, tuple[int, int]]]


def align(
    cascade: Cascade,
    source: str,
    target: str,
    *,
    mode: Mode = "auto",
    emphasis: Mapping[str, float] | None = None,
    place: tuple[Sequence[str], Sequence[str]] = ((), ()),
) -> Words:
    """How the base stage's tokens of two texts belong together.

    Args:
        cascade: whose text tower reads them.
        source, target: the texts.
        mode: "replace" swaps word for word, "refine" aligns tokens; "auto" replaces where both
            texts have equally many words.
        emphasis: factors on words of the target (2 doubles their attention, 0 takes it away).
        place: words of the source and of the target (local blend).

    Raises:
        UserError: "replace" for texts of different lengths, or a word that is not in its text.
    """
    old, new = read_text(cascade, source), read_text(cascade, target)
    same = len(old.order) == len(new.order)
    if mode == "replace" and not same:
        raise UserError(
            f"words are replaced one for one, but the source text has {len(old.order)} and the"
            f" target text {len(new.order)}; align them with refine"
        )
    size = len(new.ids)
    if mode == "refine" or not same:
        mapper = aligned(old, new)
        own = (mapper.sum(axis=0) == 0).astype(np.float32)
    else:
        mapper, own = replaced(old, new), np.zeros(size, np.float32)
    scale = np.ones(size, np.float32)
    for word, factor in (emphasis or {}).items():
        scale[_tokens(new, word, "target")] = factor
    where = np.zeros((2, size), np.float32)
    for row, (text, name, chosen) in enumerate(
        ((old, "source", place[0]), (new, "target", place[1]))
    ):
        for word in chosen:
            where[row, _tokens(text, word, name)] = 1
    if where.any() and not where.any(axis=1).all():
        raise UserError("a place needs words of both texts: of the source and of the target")
    return Words(mapper, own, scale, where)


def read_text(cascade: Cascade, text: str) -> Text:
    """A text's tokens, and which of them each of its words is written in."""
    ids, mask = cascade.text.tokens(text)
    empty_length = int(cascade.text.tokens("")[1].sum())
    at, words, order = empty_length - 1, {}, []  # after the start token, where there is one
    end = int(mask.sum())
    for word in text.split():
        bare = word.strip(string.punctuation).lower()
        if not bare:
            continue
        one, one_mask = cascade.text.tokens(bare)
        written = one[empty_length - 1 : int(one_mask.sum()) - 1]
        for start in range(at, end - len(written) + 1):
            if np.array_equal(ids[start : start + len(written)], written):
                at = start + len(written)
                words.setdefault(bare, []).append((start, at))
                order.append((bare, (start, at)))
                break
    return Text(ids, end, words, order)


def _tokens(text: Text, word: str, which: str) -> list[int]:
    bare = word.strip(string.punctuation).lower()
    if bare not in text.words:
        known = ", ".join(text.words) or "nothing"
        raise UserError(f"the {which} text has no word {word!r}; its words are: {known}")
    return [i for start, end in text.words[bare] for i in range(start, end)]


def replaced(old: Text, new: Text) -> Float[np.ndarray, "l l"]:
    """Word for word; every row sums to 1, so that maps of attention still do."""
    size = len(new.ids)
    mapper = np.zeros((size, size), np.float32)
    i = j = 0
    for (_, (start, end)), (_, (start2, end2)) in zip(old.order, new.order, strict=True):
        i, j = _side_by_side(mapper, i, start, j, start2)
        if end - start == end2 - start2:
            mapper[range(start, end), range(start2, end2)] = 1
        else:
            mapper[start:end, start2:end2] = 1 / (end2 - start2)
        i, j = end, end2
    i, j = _side_by_side(mapper, i, size, j, size)
    return mapper


def _side_by_side(mapper: np.ndarray, i: int, end: int, j: int, end2: int) -> tuple[int, int]:
    """Pairs off what lies between two words; what is left over goes to the last of the other."""
    for row in range(i, end):
        column = j + row - i
        mapper[row, min(column, end2 - 1) if end2 > j else max(j - 1, 0)] = 1
    return end, end2


def aligned(old: Text, new: Text) -> Float[np.ndarray, "l l"]:
    """Needleman & Wunsch 1970 over tokens: a target token takes over the source token that it is
    aligned with if both are the same; columns without one are zero."""
    x, y = old.ids[: old.length], new.ids[: new.length]
    score = np.zeros((len(x) + 1, len(y) + 1), np.int32)
    for i in range(1, len(x) + 1):
        for j in range(1, len(y) + 1):
            pair = score[i - 1, j - 1] + (_MATCH if x[i - 1] == y[j - 1] else _MISMATCH)
            score[i, j] = max(pair, score[i - 1, j] + _GAP, score[i, j - 1] + _GAP)
    size = len(new.ids)
    mapper = np.zeros((size, size), np.float32)
    i, j = len(x), len(y)
    while i and j:
        same = x[i - 1] == y[j - 1]
        if same and score[i, j] == score[i - 1, j - 1] + _MATCH:
            mapper[i - 1, j - 1] = 1
            i, j = i - 1, j - 1
        elif score[i, j] == score[i, j - 1] + _GAP:
            j -= 1
        else:
            i -= 1
    padding = range(len(y), size)
    mapper[padding, padding] = 1
    return mapper
