"""A CLIP tokenizer for a closed vocabulary, in CLIP's own files.

CLIP's tokenizer is a byte-level BPE: a word is spelled in single characters, the last one marked
with `</w>`, and pairs are merged in the order of merges.txt. Here words grow from their marked end
("o" + "g</w>", then "d" + "og</w>"): only the last two pieces of a word can then be merged, so no
merge of one word gets in the way of another. Every word of the vocabulary becomes one token, and a
word outside it falls into letters, perhaps with an ending that some known word shares.
"""

import json
from collections.abc import Sequence
from pathlib import Path

START, END = "<|startoftext|>", "<|endoftext|>"
FILES = ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json")
_WORD_END = "</w>"


def _characters() -> list[str]:
    """The 256 printable characters that stand for bytes in GPT-2's and CLIP's vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    shown = {b: chr(b) for b in printable}
    others = (b for b in range(256) if b not in shown)
    return [*shown.values(), *(chr(256 + i) for i, _ in enumerate(others))]


def merges(vocabulary: Sequence[str]) -> list[tuple[str, str]]:
    """The merges that build every word from its end, short pieces first.

    Raises:
        ValueError: a word is not of lower-case letters, which CLIP would split.
    """
    for word in vocabulary:
        if not (word.isascii() and word.isalpha() and word.islower()):
            raise ValueError(f"{word!r} is not of lower-case letters")
    ends = {word[i:] for word in vocabulary for i in range(len(word) - 1)}
    return [(e[0], e[1:] + _WORD_END) for e in sorted(ends, key=lambda e: (len(e), e))]


def token_ids(vocabulary: Sequence[str]) -> dict[str, int]:
    """vocab.json: characters, characters at a word's end, merged pieces, start and end of text."""
    single = _characters()
    pieces = [a + b for a, b in merges(vocabulary)]
    tokens = [*single, *(c + _WORD_END for c in single), *pieces, START, END]
    return {token: i for i, token in enumerate(tokens)}


def save_clip_vocabulary(folder: str | Path, vocabulary: Sequence[str], max_length: int) -> None:
    """Writes a tokenizer folder that `transformers.CLIPTokenizer` opens.

    Args:
        folder: is made if need be.
        vocabulary: words of lower-case letters.
        max_length: tokens of a text, start and end included; the end token pads.
    """
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": max_length,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **_special(),
    }
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges(vocabulary))]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, value in (
        ("vocab.json", token_ids(vocabulary)),
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", _special()),
    ):
        text = json.dumps(value, indent=None if name == "vocab.json" else 2, ensure_ascii=False)
        (folder / name).write_text(text + "\n", encoding="utf-8")


def _special() -> dict[str, str]:
    return {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
