"""What can score the sweep of an edit (`eta_choice`): Flatland's reader, and a CLIP pair.

On a Flatland picture the reader explains the input, renders the ideal edit for the text, and asks
of every picture how well input or ideal edit explains it (fidelity) and which of the two it is
nearer to (alignment). A CLIP pair gives cosines with the text and with the input. Without either
the strip stays the answer.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from imagic_jax.backbones.registry import MODELS
from imagic_jax.flatland import captions, free_reader, reader
from imagic_jax.flatland.counterfactuals import ideals
from imagic_jax.flatland.free_reader import FreeReading
from imagic_jax.flatland.nuisance import Nuisance
from imagic_jax.flatland.reader import Reading
from imagic_jax.jobs.eta_choice import Scorer
from imagic_jax.metrics.catalog import Opened, open_metrics
from imagic_jax.metrics.clip import clip_pixels, text_embeddings
from imagic_jax.metrics.contract import Pairs
from imagic_jax.metrics.networks import Networks
from imagic_jax.models.clip_pair import unit

PAIR = MODELS / "flatland-clip"
_ALIGNMENT, _FIDELITY = "clip_cos", "lpips_alex"
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
        return np.max([reader.nearness(small, source, g) for g in goals], axis=0), fidelity


def read_source(
    sources: Float[np.ndarray, "n 64 64 3"], bank_size: int = _BANK
) -> list[FreeReading]:
    """Reads inputs in [0, 1] whose nuisance, identity mark included, nobody knows."""
    small = to_side(sources, free_reader.SIZE)
    return free_reader.read_free(small, bank_size=bank_size, marks=True)


def marked(source: Float[np.ndarray, "64 64 3"], seen: FreeReading) -> Nuisance:
    """The nuisance that was read, with the identity mark where there is one: at 64 pixels its
    cells are told apart more surely than at the 32 of the free reader."""
    plain = Reading(seen.factors, (0, 0), 0.0, seen.residual)
    bits = reader.read_mark(source, plain, reader.mark_basis(seen.factors, seen.nuisance))
    bare, told = (
        seen.nuisance._replace(mark=jnp.asarray(bits), mark_on=jnp.float32(on)) for on in (0, 1)
    )
    error = [
        np.square(reader.render_list([seen.factors], u)[0] - source).sum() for u in (bare, told)
    ]
    return told if error[1] < error[0] else bare


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
    """A CLIP pair: texts and pictures to vectors of length 1.

    Args:
        folder: as transformers writes it, tokenizer beside it.
    """

    def __init__(self, folder: Path):
        self.name, self._pair = folder.name, Networks(None).clip(str(folder))
        module: Any = self._pair.module
        self._look = jax.jit(lambda p, x: module.apply({"params": p}, x, method="encode_image"))

    def texts(self, texts: Sequence[str]) -> Float[np.ndarray, "n p"]:
        """Embeddings of texts."""
        pair = self._pair
        return np.asarray(text_embeddings(pair.module, pair.params, pair.tokenize(texts)))

    def pictures(self, pictures: Pictures) -> Float[np.ndarray, "n p"]:
        """Embeddings of pictures in [-1, 1]."""
        return self.features(pictures)[0]

    def features(
        self, pictures: Pictures
    ) -> tuple[Float[np.ndarray, "n p"], Float[np.ndarray, "n t d"]]:
        """(embeddings, last states of all patches)."""
        shown = jnp.asarray(np.clip(pictures / 2.0 + 0.5, 0.0, 1.0), jnp.float32)
        seen = self._look(self._pair.params, clip_pixels(shown, self._pair.how))
        states = np.asarray(seen.last_hidden_state)
        lengths = np.linalg.norm(states, axis=-1, keepdims=True)
        return np.asarray(unit(seen.image_embeds)), states / lengths


class PublishedScorer:
    """CLIP (ViT-L/14) and LPIPS (alex), where the user has their weights.

    The authors of Imagic warn that both are too imprecise to choose eta for one picture; the
    tolerance is a guess that no benchmark has measured.

    Args:
        metrics: clip_cos and lpips_alex, opened.
        source: the input, (H, W, 3) in [-1, 1].
        text: the target text.
    """

    alignment = "CLIP: cosine of picture and text"
    fidelity = "1 - LPIPS to the input"
    tolerance = 0.3

    def __init__(self, metrics: Opened, source: Float[np.ndarray, "h w 3"], text: str):
        self._metrics, self._source, self._text = metrics, source / 2.0 + 0.5, text

    def __call__(
        self, pictures: Pictures
    ) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        shown = np.clip(pictures / 2.0 + 0.5, 0.0, 1.0).astype(np.float32)
        same = np.broadcast_to(self._source.astype(np.float32), shown.shape)
        texts = (self._text,) * len(shown)
        values = self._metrics.score(Pairs(shown, same, text=texts)).values
        return values[_ALIGNMENT], 1.0 - values[_FIDELITY]


def to_side(pictures: Pictures, side: int) -> Float[np.ndarray, "n s s 3"]:
    """Square pictures at another size: means over blocks where it divides, else resampled."""
    pictures = np.asarray(pictures, np.float32)
    n, height = pictures.shape[:2]
    if height % side == 0:
        k = height // side
        return pictures.reshape(n, side, k, side, k, 3).mean(axis=(2, 4))
    return np.asarray(jax.image.resize(jnp.asarray(pictures), (n, side, side, 3), "linear"))


def scorer_for(
    card: Mapping[str, Any],
    square: Float[np.ndarray, "s s 3"],
    text: str,
    weights: Path | None = None,
) -> tuple[Scorer | None, str]:
    """What can score edits of this picture on this model.

    Args:
        card: the model's cascade.json.
        square: the input in [-1, 1].
        text: the target text.
        weights: the folder of published metric weights, if the user has one.

    Returns:
        A scorer, or None with the reason in a sentence.

    Raises:
        UserError, WeightsError: the folder of weights is missing or broken.
    """
    if not (card.get("text") or {}).get("closed_vocabulary"):
        return _published(square, text, weights)
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


def _published(
    square: Float[np.ndarray, "s s 3"], text: str, weights: Path | None
) -> tuple[Scorer | None, str]:
    metrics = open_metrics((_ALIGNMENT, _FIDELITY), weights)
    if not metrics.missing:
        return PublishedScorer(metrics, square, text), ""
    wanted = "; ".join(f"{name} {why}" for name, why in metrics.missing.items())
    return None, (
        f"nothing here can score edits of photographs, so that no eta is chosen and the strip is"
        f" the answer ({wanted}; --metric_weights names their folder)"
    )
