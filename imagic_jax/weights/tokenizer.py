"""Tokenizers from a checkpoint's own files: texts -> fixed-length ids and mask.

`tokenizer.json` files (the Hugging Face "fast" format) are read with the `tokenizers` library,
which is small; `transformers` is imported only for folders that need its converters.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

PAD, EOS, UNKNOWN = "<pad>", "</s>", "<unk>"


class TokenizerError(ValueError):
    """A tokenizer folder cannot be read."""


class Tokenizer:
    """Texts to token ids, padded and cut to `max_length`."""

    def __init__(self, backend: Any, max_length: int):
        self._backend = backend
        self.max_length = max_length

    @classmethod
    def load(cls, folder: str | Path) -> "Tokenizer":
        """Reads a tokenizer folder that holds a `tokenizer.json`.

        Raises:
            TokenizerError: the files are missing or broken.
        """
        import tokenizers

        path = Path(folder) / "tokenizer.json"
        if not path.is_file():
            raise TokenizerError(f"{folder}: no tokenizer.json in this tokenizer folder")
        try:
            backend = tokenizers.Tokenizer.from_file(str(path))
            config = json.loads((Path(folder) / "tokenizer_config.json").read_text())
            max_length = int(config["model_max_length"])
        except Exception as error:  # the library raises bare Exception
            raise TokenizerError(f"{folder}: this tokenizer cannot be read ({error})") from error
        pad = config.get("pad_token", PAD)
        backend.enable_truncation(max_length)
        backend.enable_padding(
            length=max_length, pad_id=backend.token_to_id(pad) or 0, pad_token=pad
        )
        return cls(backend, max_length)

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "b l"], Int[np.ndarray, "b l"]]:
        """Ids and mask (1 at real tokens), both (len(texts), max_length) int32."""
        rows = self._backend.encode_batch(list(texts))
        ids = np.array([r.ids for r in rows], np.int32).reshape(len(texts), self.max_length)
        mask = np.array([r.attention_mask for r in rows], np.int32).reshape(ids.shape)
        return ids, mask

    def cut_off(self, text: str) -> str:
        """The end of `text` that does not fit into `max_length` tokens ("" where all fits)."""
        row = self._backend.encode(text)
        if not row.overflowing:
            return ""
        kept = [
            end
            for (_, end), special in zip(row.offsets, row.special_tokens_mask, strict=True)
            if not special
        ]
        return text[max(kept, default=0) :].strip()

    def unknown_words(self, text: str) -> list[str]:
        """The words that became the unknown token, in order, without repeats."""
        row = self._backend.encode(text)
        unknown = self._backend.token_to_id(UNKNOWN)
        spans = [text[a:b] for i, (a, b) in zip(row.ids, row.offsets, strict=True) if i == unknown]
        return list(dict.fromkeys(spans))


class HashTokenizer:
    """Made-up token ids for models without files (timing with random weights)."""

    def __init__(self, vocabulary: int, max_length: int = 77):
        self._vocabulary, self.max_length = vocabulary, max_length

    def __call__(
        self, texts: Sequence[str]
    ) -> tuple[Int[np.ndarray, "b l"], Int[np.ndarray, "b l"]]:
        """As `Tokenizer`; the last id of the vocabulary ends a text, as in CLIP's."""
        last = self._vocabulary - 1
        ids = np.full((len(texts), self.max_length), last, np.int32)
        mask = np.zeros(ids.shape, np.int32)
        for row, text in enumerate(texts):
            words = text.split()[: self.max_length - 1]
            for column, word in enumerate(words):
                ids[row, column] = zlib.crc32(word.encode()) % last
            mask[row, : len(words) + 1] = 1
        return ids, mask

    def cut_off(self, text: str) -> str:
        """What `max_length` leaves out."""
        return " ".join(text.split()[self.max_length - 1 :])

    def unknown_words(self, text: str) -> list[str]:
        """None: every word has an id."""
        return []


def save_word_level(folder: str | Path, vocabulary: Sequence[str], max_length: int) -> None:
    """Writes a tokenizer folder for a closed vocabulary of lower-case words.

    One word, one token; `</s>` at the end, `<pad>` = 0, `</s>` = 1, `<unk>` = 2 as in T5. PyTorch
    users open it with `transformers.PreTrainedTokenizerFast`.
    """
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    table = {w: i for i, w in enumerate([PAD, EOS, UNKNOWN, *vocabulary])}
    backend = tokenizers.Tokenizer(models.WordLevel(table, unk_token=UNKNOWN))
    backend.normalizer = normalizers.Sequence(
        [normalizers.Lowercase(), normalizers.Replace(tokenizers.Regex(r"[^\w']"), " ")]
    )
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}", special_tokens=[(EOS, table[EOS])]
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    backend.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": max_length,
        "pad_token": PAD,
        "eos_token": EOS,
        "unk_token": UNKNOWN,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
