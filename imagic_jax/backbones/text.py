"""Text encoders of cascades: texts in, one `Cond` per stage out."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax

from imagic_jax.backbones.contracts import Cond
from imagic_jax.models import T5Encoder
from imagic_jax.typing import Params, TextMask, TextStates, Tokens
from imagic_jax.weights.tokenizer import Tokenizer


def states(module: T5Encoder, params: Params, ids: Tokens, mask: TextMask) -> TextStates:
    """Last hidden states of token ids: (b, l, d)."""
    out: Any = module.apply({"params": params}, ids, mask)
    return out


_compiled_states = jax.jit(states, static_argnames="module")


@dataclasses.dataclass(frozen=True)
class T5Text:
    """A T5 encoder whose states every stage reads (Imagen, DeepFloyd IF I and II).

    The mask goes to T5 but not on to the UNets, which were trained to see the padding rows.
    """

    module: T5Encoder
    tokenizer: Tokenizer
    stages: int
    closed_vocabulary: bool = False

    def encode(self, params: Params, texts: Sequence[str]) -> tuple[Cond, ...]:
        """(len(texts), L, D) states, the same `Cond` for every stage."""
        ids, mask = self.tokenizer(texts)
        cond = Cond(_compiled_states(self.module, params, ids, mask))
        return (cond,) * self.stages

    def check(self, text: str) -> list[str]:
        """What is lost of `text`: words cut off, and words outside a closed vocabulary."""
        found = []
        cut = self.tokenizer.cut_off(text)
        if cut:
            found.append(
                f"the text is longer than the encoder's {self.tokenizer.max_length} tokens;"
                f' this was cut off: "{cut}"'
            )
        if self.closed_vocabulary:
            unknown = self.tokenizer.unknown_words(text)
            if unknown:
                words = ", ".join(f'"{w}"' for w in unknown)
                found.append(
                    f"this model has never seen the word{'s' if len(unknown) > 1 else ''} {words}"
                    " and reads over them: it only knows the words of Flatland"
                )
        return found
