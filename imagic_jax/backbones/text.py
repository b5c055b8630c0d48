"""Text towers of cascades: texts in, one `Cond` per stage out.

A tower is one text encoder, or SDXL's two; `CascadeText` says which stage reads which. Parameters
are arguments: `params["text"]` is a tuple with one tree per tower.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from imagic_jax.backbones.contracts import Cond
from imagic_jax.flatland.captions import unknown_words
from imagic_jax.models import CLIPTextModel, T5Encoder
from imagic_jax.typing import Params, TextMask, TextStates, Tokens
from imagic_jax.weights import captions


@runtime_checkable
class Tokenizer(Protocol):
    """What a tower wants of a tokenizer."""

    @property
    def max_length(self) -> int: ...

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "b l"], Int[np.ndarray, "b l"]]: ...

    def cut_off(self, text: str) -> str: ...

    def unknown_words(self, text: str) -> list[str]: ...


@runtime_checkable
class TextTower(Protocol):
    """One text encoder and its tokenizer. Implementations are frozen dataclasses."""

    def encode(self, params: Params, texts: Sequence[str]) -> Cond:
        """(len(texts), L, D) states, and what else the stages want."""
        ...

    def own_tokens(self, text: str) -> Float[np.ndarray, "1 l"]:
        """1 at the rows of the states that are the text's own words; see `own_tokens`."""
        ...

    def tokens(self, text: str) -> tuple[Int[np.ndarray, " l"], Int[np.ndarray, " l"]]:
        """Token ids of one text and their mask, as the states' rows."""
        ...

    def check(self, text: str) -> list[str]:
        """What is lost of a text, in sentences for people."""
        ...


#: What is done to a text before DeepFloyd IF's tokenizer; Flatland's knows no capitals anyway.
_CLEANING = {"none": str, "simple": captions.simple, "full": captions.full}


def states(module: T5Encoder, params: Params, ids: Tokens, mask: TextMask) -> TextStates:
    """Last hidden states of token ids: (b, l, d)."""
    out: Any = module.apply({"params": params}, ids, mask)
    return out


_compiled_states = jax.jit(states, static_argnames="module")


@dataclasses.dataclass(frozen=True)
class T5Text:
    """A T5 encoder (Imagen, DeepFloyd IF I and II).

    The mask goes to T5 but not on to the UNets, which were trained to see the padding rows.

    Attributes:
        cleaning: "none", "simple" or "full", see `weights.captions`.
    """

    module: T5Encoder
    tokenizer: Tokenizer
    closed_vocabulary: bool = False
    cleaning: str = "none"

    def encode(self, params: Params, texts: Sequence[str]) -> Cond:
        ids, mask = self.tokenizer([_CLEANING[self.cleaning](t) for t in texts])
        return Cond(_compiled_states(self.module, params, ids, mask).astype(jnp.float32))

    def own_tokens(self, text: str) -> Float[np.ndarray, "1 l"]:
        return own_tokens(self.tokenizer, _CLEANING[self.cleaning](text))

    def tokens(self, text: str) -> tuple[Int[np.ndarray, " l"], Int[np.ndarray, " l"]]:
        return _tokens(self.tokenizer, _CLEANING[self.cleaning](text))

    def check(self, text: str) -> list[str]:
        """Words cut off, and words outside a closed vocabulary."""
        text = _CLEANING[self.cleaning](text)
        return [*_cut(self.tokenizer, text), *_unknown(self, text)]


@dataclasses.dataclass(frozen=True)
class CLIPText:
    """A CLIP text tower whose last states are read (Stable Diffusion 1 and 2, x4 upscaler)."""

    module: CLIPTextModel
    tokenizer: Tokenizer
    closed_vocabulary: bool = False

    def encode(self, params: Params, texts: Sequence[str]) -> Cond:
        ids, _ = self.tokenizer(texts)
        out = _compiled_clip(self.module, params, ids)
        return Cond(out.last_hidden_state.astype(jnp.float32))

    def own_tokens(self, text: str) -> Float[np.ndarray, "1 l"]:
        return own_tokens(self.tokenizer, text)

    def tokens(self, text: str) -> tuple[Int[np.ndarray, " l"], Int[np.ndarray, " l"]]:
        return _tokens(self.tokenizer, text)

    def check(self, text: str) -> list[str]:
        return [*_cut(self.tokenizer, text), *_unknown(self, text)]


@dataclasses.dataclass(frozen=True)
class SDXLText:
    """SDXL's two CLIP towers: penultimate states side by side, the second's projected pooled state.

    Attributes:
        zero_empty: the empty text is all zeros, as the checkpoint's pipeline draws without one.
    """

    modules: tuple[CLIPTextModel, CLIPTextModel]
    tokenizers: tuple[Tokenizer, Tokenizer]
    zero_empty: bool = True

    def encode(self, params: Params, texts: Sequence[str]) -> Cond:
        """`params` are {"text_encoder": ..., "text_encoder_2": ...}."""
        trees = (params["text_encoder"], params["text_encoder_2"])
        out = [
            _compiled_clip(module, tree, tokenizer(texts)[0])
            for module, tree, tokenizer in zip(self.modules, trees, self.tokenizers, strict=True)
        ]
        states = jnp.concatenate([o.penultimate.astype(jnp.float32) for o in out], axis=-1)
        pooled = out[1].pooled.astype(jnp.float32)
        if self.zero_empty:
            said = jnp.array([bool(t.strip()) for t in texts])
            states = jnp.where(said[:, None, None], states, 0.0)
            pooled = jnp.where(said[:, None], pooled, 0.0)
        return Cond(states, pooled=pooled)

    def own_tokens(self, text: str) -> Float[np.ndarray, "1 l"]:
        return own_tokens(self.tokenizers[0], text)

    def tokens(self, text: str) -> tuple[Int[np.ndarray, " l"], Int[np.ndarray, " l"]]:
        return _tokens(self.tokenizers[0], text)

    def check(self, text: str) -> list[str]:
        return _cut(self.tokenizers[0], text)


_compiled_clip: Any = jax.jit(
    lambda module, params, ids: module.apply({"params": params}, ids), static_argnums=0
)


@dataclasses.dataclass(frozen=True)
class CascadeText:
    """The towers of a cascade.

    Attributes:
        towers: each text encoder once.
        of_stage: index of the tower that each stage reads.
    """

    towers: tuple[TextTower, ...]
    of_stage: tuple[int, ...]

    def encode(self, params: Sequence[Params], texts: Sequence[str]) -> tuple[Cond, ...]:
        """One `Cond` per stage; each tower runs once. `params` has one tree per tower."""
        conds = [t.encode(p, texts) for t, p in zip(self.towers, params, strict=True)]
        return tuple(conds[i] for i in self.of_stage)

    def own_tokens(self, text: str) -> Float[np.ndarray, "1 l"]:
        """1 at the rows of the base stage's states that are the text's own words."""
        return self.towers[self.of_stage[0]].own_tokens(text)

    def tokens(self, text: str) -> tuple[Int[np.ndarray, " l"], Int[np.ndarray, " l"]]:
        """Token ids of one text and their mask, as the rows of the base stage's states."""
        return self.towers[self.of_stage[0]].tokens(text)

    def check(self, text: str) -> list[str]:
        """What the towers cannot take of a text."""
        return list(dict.fromkeys(note for tower in self.towers for note in tower.check(text)))


def own_tokens(tokenizer: Tokenizer, text: str) -> Float[np.ndarray, "1 l"]:
    """1 at a text's own tokens, 0 at what the tokenizer puts around them and at padding.

    What is around them is what the empty text consists of: an end, and before it maybe a start.
    """
    _, mask = tokenizer([text, ""])
    count, around = (int(n) for n in mask.sum(axis=1))
    place = np.arange(mask.shape[1]) - (around - 1)
    return ((place >= 0) & (place < count - around)).astype(np.float32)[None]


def _tokens(tokenizer: Tokenizer, text: str) -> tuple[np.ndarray, np.ndarray]:
    ids, mask = tokenizer([text])
    return ids[0], mask[0]


def _cut(tokenizer: Tokenizer, text: str) -> list[str]:
    cut = tokenizer.cut_off(text)
    if not cut:
        return []
    return [
        f"the text is longer than the encoder's {tokenizer.max_length} tokens;"
        f' this was cut off: "{cut}"'
    ]


def _unknown(tower: T5Text | CLIPText, text: str) -> list[str]:
    unknown: list[str] = []
    if tower.closed_vocabulary:
        spells = isinstance(tower, CLIPText)  # CLIP's tokenizer has no unknown word of its own
        unknown = unknown_words(text) if spells else tower.tokenizer.unknown_words(text)
    if not unknown:
        return []
    words = ", ".join(f'"{w}"' for w in unknown)
    return [
        f"this model has never seen the word{'s' if len(unknown) > 1 else ''} {words}"
        " and reads over them: it only knows the words of Flatland"
    ]
