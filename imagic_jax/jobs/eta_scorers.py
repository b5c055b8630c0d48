"""What can score the sweep of an edit (`eta_choice`): Flatland's reader, and a CLIP pair.

On a Flatland picture the reader explains the input, renders the ideal edit for the text, and asks
of every picture how well input or ideal edit explains it (fidelity) and which of the two it is
nearer to (alignment). A CLIP pair gives cosines with the text and with the input. Without either
the strip stays the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from imagic_jax.backbones.registry import MODELS
from imagic_jax.flatland import captions, free_reader, reader
from imagic_jax.flatland.counterfactuals import ideals
from imagic_jax.flatland.free_reader import FreeReading
from imagic_jax.flatland.nuisance import Nuisance
from imagic_jax.flatland.reader import Reading
from imagic_jax.jobs.eta_choice import Scorer
from imagic_jax.models import CLIPModel
from imagic_jax.models.clip_pair import unit
from imagic_jax.weights import load_part
from imagic_jax.weights.pretrained_tokenizer import load_tokenizer

PAIR = MODELS / "flatland-clip"
_BANK = 4096  # known pictures of the free reader, for one picture
#: A picture that the reader explains no better than this is none of Flatland's.
MOST_RESIDUAL = 0.02

Pictures = Float[np.ndarray, "n h w 3"]


class ReaderScorer:
    """Flatland's reader: needs no network, and knows what the ideal edit looks like.

    Args:
        source: the input, (64, 64, 3) in [0, 1].
        seen: what `read_source` read in it.
        text: the target text.
    """

    alignment = "nearness to the ideal edit (0 the input, 1 the ideal edit)"
    fidelity = "how well input or ideal edit explains the picture (dB)"
    tolerance = 5.0

    def __init__(self, source: Float[np.ndarray, "64 64 3"], seen: FreeReading, text: str):
        self._u = marked(source, seen)
        self._options = [seen.factors, *ideals(seen.factors, captions.parse(text))]
        self._drawn = reader.render_list(self._options, self._u)

    def __call__(
        self, pictures: Pictures
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        small = np.clip(to_side(pictures, reader.SIZE) / 2.0 + 0.5, 0.0, 1.0)
        explained = [r.residual for r in reader.read(small, self._u, self._options)]
        fidelity = -10.0 * np.log10(np.maximum(explained, 1e-6))  # 60 dB: rounding
        source, *goals = self._drawn
        undecided = np.min([reader.decided(small, source, g) for g in goals], axis=0)
        return 1.0 / (1.0 + undecided), fidelity


def read_source(
    sources: Float[np.ndarray, "n 64 64 3"], bank_size: int = _BANK
) -> list[FreeReading]:
    """Reads inputs in [0, 1] whose nuisance nobody knows."""
    return free_reader.read_free(to_side(sources, free_reader.SIZE), bank_size=bank_size)


def marked(source: Float[np.ndarray, "64 64 3"], seen: FreeReading) -> Nuisance:
    """The nuisance that was read, with the identity mark where there is one: the free reader knows
    none."""
    plain = Reading(seen.factors, (0, 0), 0.0, seen.residual)
    bits = reader.read_mark(source, plain, reader.mark_basis(seen.factors, seen.nuisance))
    told = seen.nuisance._replace(mark=jnp.asarray(bits), mark_on=jnp.float32(1.0))
    error = [
        np.square(reader.render_list([seen.factors], u)[0] - source).sum()
        for u in (seen.nuisance, told)
    ]
    return told if error[1] < error[0] else seen.nuisance


class PairScorer:
    """A CLIP pair: the cosine with the text, and the cosine with the input.

    Args:
        pair: see `open_pair`.
        source: the input, (H, W, 3) in [-1, 1].
        text: the target text.
    """

    tolerance = 0.1

    def __init__(self, pair: "Pair", source: Float[np.ndarray, "h w 3"], text: str):
        self._pair = pair
        self._text, self._source = pair.texts([text])[0], pair.pictures(source[None])[0]
        self.alignment = f"cosine of picture and text ({pair.name})"
        self.fidelity = f"cosine of picture and input ({pair.name})"

    def __call__(
        self, pictures: Pictures
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        seen = self._pair.pictures(pictures)
        return seen @ self._text, seen @ self._source


class BothScorer:
    """The alignment of one scorer with the fidelity of another."""

    def __init__(self, alignment: Scorer, fidelity: Scorer):
        self._of = alignment, fidelity
        self.alignment, self.fidelity = alignment.alignment, fidelity.fidelity
        self.tolerance = fidelity.tolerance

    def __call__(
        self, pictures: Pictures
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        return self._of[0](pictures)[0], self._of[1](pictures)[1]


class Pair:
    """A CLIP pair with its tokenizer: texts and pictures to unit vectors.

    Args:
        folder: as transformers writes it, tokenizer beside it.
    """

    def __init__(self, folder: Path):
        module, self._params = load_part(folder)
        assert isinstance(module, CLIPModel)
        self.name, self._size = folder.name, module.config.vision.image_size
        self._tokenizer = load_tokenizer(folder)
        self._text: Callable[..., Array] = jax.jit(
            lambda p, ids: unit(_of(module.apply({"params": p}, ids, method="encode_text")).pooled)
        )
        self._look: Callable[..., tuple[Array, Array]] = jax.jit(
            lambda p, x: _embedded(module.apply({"params": p}, x, method="encode_image"))
        )

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n p"]:
        """Embeddings of texts, of length 1."""
        ids, _ = self._tokenizer(list(texts))
        return np.asarray(self._text(self._params, jnp.asarray(ids)))

    def pictures(self, pictures: Pictures) -> Float[np.ndarray, "n p"]:
        """Embeddings of pictures in [-1, 1], of length 1."""
        return self.features(pictures)[0]

    def features(
        self, pictures: Pictures
    ) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n t d"]]:
        """(embeddings, last states of all patches), every vector of length 1."""
        small = jnp.asarray(to_side(pictures, self._size), jnp.float32)
        seen, states = self._look(self._params, small)
        return np.asarray(seen), np.asarray(states)


def _of(out: Any) -> Any:
    return out


def _embedded(out: Any) -> tuple[Array, Array]:
    states = out.last_hidden_state
    return unit(out.image_embeds), unit(states.reshape(-1, states.shape[-1])).reshape(states.shape)


def to_side(pictures: Pictures, side: int) -> Float[np.ndarray, "n s s 3"]:
    """Square pictures at another size: means over blocks where it divides, else resampled."""
    pictures = np.asarray(pictures, np.float32)
    n, height = pictures.shape[:2]
    if height % side == 0:
        k = height // side
        return pictures.reshape(n, side, k, side, k, 3).mean(axis=(2, 4))
    return np.asarray(jax.image.resize(jnp.asarray(pictures), (n, side, side, 3), "linear"))


def scorer_for(
    card: Mapping[str, Any], square: Float[np.ndarray, "s s 3"], text: str
) -> tuple[Scorer | None, str]:
    """What can score edits of this picture on this model.

    Args:
        card: the model's cascade.json.
        square: the input in [-1, 1].
        text: the target text.

    Returns:
        A scorer, or None with the reason in a sentence.
    """
    if not (card.get("text") or {}).get("closed_vocabulary"):
        return None, (
            "nothing here can score edits of photographs (a CLIP pair and LPIPS are wanted), so"
            " that no eta is chosen: the strip is the answer"
        )
    if not captions.parse(text):
        return None, "the text names nothing that Flatland's reader knows, so that no eta is chosen"
    small = np.clip(to_side(square[None], reader.SIZE) / 2.0 + 0.5, 0.0, 1.0)
    (seen,) = read_source(small)
    if seen.residual > MOST_RESIDUAL:
        return None, (
            f"the picture is none of Flatland's (the reader leaves {seen.residual:.3f}"
            " unexplained), so that nothing can score its edits and no eta is chosen"
        )
    by_reader = ReaderScorer(small[0], seen, text)
    if not (PAIR / "config.json").is_file():
        return by_reader, ""
    return BothScorer(PairScorer(Pair(PAIR), square, text), by_reader), ""
