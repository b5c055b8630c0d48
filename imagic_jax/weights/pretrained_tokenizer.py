"""Tokenizers of published checkpoints: CLIP's byte-level BPE and T5's sentencepiece.

transformers reads the files, so that the ids are those of the PyTorch pipelines, quirks included:
where special_tokens_map.json and an old tokenizer_config.json disagree the former is right (Stable
Diffusion 2 pads with "!", id 0), and a "!" in such a text is the padding token too.
"""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imagic_jax.weights.tokenizer import Tokenizer, TokenizerError

LENGTH = 77  # tokens, of CLIP's text towers and of what DeepFloyd IF gives to T5
_SHORTEST, _LONGEST = 3, 10_000  # transformers writes 1e30 where no length was set
_JSON = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json")
_FILES = {
    "CLIPTokenizer": ("vocab.json", "merges.txt"),
    "T5Tokenizer": ("spiece.model",),
}
_OUR_OWN = (
    "PreTrainedTokenizer",
    "TokenizersBackend",
)  # what transformers calls any tokenizer.json
_MODELS = {"BPE": "CLIPTokenizer", "Unigram": "T5Tokenizer", "WordLevel": _OUR_OWN[0]}
_QUIET = "TRANSFORMERS_NO_ADVISORY_WARNINGS"


class PretrainedTokenizer(Tokenizer):
    """A `Tokenizer` whose vocabulary is open: every text can be written in its tokens."""

    def unknown_words(self, text: str) -> list[str]:
        """None: words are spelled out of smaller pieces."""
        return []


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """Opens a tokenizer folder.

    Args:
      folder: one of `vocab.json` and `merges.txt` (CLIP), `spiece.model` (T5), or a
        `tokenizer.json` of either, with whatever configs the checkpoint has; or one written by
        `tokenizer.save_word_level`.

    Returns:
      A tokenizer that pads and cuts as the PyTorch pipelines do: CLIP to the length in its config
      (77 where that is missing or absurd), T5 to 77, both with the end token kept.

    Raises:
      TokenizerError: a file is missing or broken, or it is another kind of tokenizer.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise TokenizerError(f"{folder}: there is no such tokenizer folder")
    documents = {name: _read_json(folder / name) for name in (*_JSON, "tokenizer.json")}
    config = documents["tokenizer_config.json"] or {}
    kind = _kind(folder, config, documents["tokenizer.json"])
    if kind in _OUR_OWN:
        return _own(folder)
    _check_files(folder, kind)
    tokenizer = _open(folder, kind)
    return PretrainedTokenizer(*_prepare(folder, tokenizer, kind))


def _kind(folder: Path, config: dict[str, Any], serialized: dict[str, Any] | None) -> str:
    """The class that reads the folder: what its config says, else what its files are."""
    said = config.get("tokenizer_class")
    kind = str(said).removesuffix("Fast") if said else _guess(folder, serialized)
    if kind in _FILES or (kind in _OUR_OWN and serialized is not None):
        return kind
    if said and kind not in _OUR_OWN:
        raise TokenizerError(
            f"{folder / 'tokenizer_config.json'}: the tokenizer is {said!r}; "
            f"supported: {', '.join(_FILES)}"
        )
    raise TokenizerError(
        f"{folder}: no tokenizer files here (CLIP: vocab.json and merges.txt; T5: spiece.model; "
        f"or tokenizer.json); found: {', '.join(sorted(os.listdir(folder))) or 'nothing'}"
    )


def _guess(folder: Path, serialized: dict[str, Any] | None) -> str:
    if serialized is not None:
        model = serialized.get("model")
        return _MODELS.get(str(model.get("type")) if isinstance(model, dict) else "", "")
    for kind, names in _FILES.items():
        if any((folder / name).is_file() for name in names):
            return kind
    return ""


def _own(folder: Path) -> Tokenizer:
    try:
        return Tokenizer.load(folder)
    except (OverflowError, TypeError) as error:
        raise TokenizerError(
            f"{folder / 'tokenizer_config.json'}: model_max_length and pad_token do not fit "
            f"({error})"
        ) from error


def _check_files(folder: Path, kind: str) -> None:
    """Raises TokenizerError unless all files are there; transformers goes on with an empty one."""
    if (folder / "tokenizer.json").is_file():
        return
    for name in _FILES[kind]:
        if not (folder / name).is_file():
            raise TokenizerError(
                f"{folder}: lacks {name} (a {kind} folder holds {' and '.join(_FILES[kind])}, "
                "or tokenizer.json)"
            )
    if kind == "T5Tokenizer":
        _check_sentencepiece(folder / "spiece.model")


def _check_sentencepiece(path: Path) -> None:
    """Raises TokenizerError for a broken file, which transformers would take for another format."""
    with _quiet():
        import sentencepiece

        try:
            pieces = sentencepiece.SentencePieceProcessor(model_file=str(path)).GetPieceSize()
        except (RuntimeError, OSError) as error:
            raise TokenizerError(f"{path}: not a whole sentencepiece model ({error})") from error
    if not pieces:
        raise TokenizerError(f"{path}: not a whole sentencepiece model (it is empty)")


def _open(folder: Path, kind: str) -> Any:
    """The tokenizer of transformers."""
    with _quiet():
        import transformers

        level = transformers.logging.get_verbosity()
        transformers.logging.set_verbosity(logging.CRITICAL)
        try:
            return getattr(transformers, kind).from_pretrained(str(folder), local_files_only=True)
        except Exception as error:  # the libraries below raise bare Exception
            names = [n for n in ("tokenizer.json", *_FILES[kind]) if (folder / n).is_file()]
            raise TokenizerError(
                f"{folder}: {' and '.join(names)} cannot be read as a {kind} ({error})"
            ) from error
        finally:
            transformers.logging.set_verbosity(level)


def _prepare(folder: Path, tokenizer: Any, kind: str) -> tuple[Any, int]:
    """(backend that pads and cuts, length) of a tokenizer of transformers."""
    backend, known = tokenizer.backend_tokenizer, tokenizer.backend_tokenizer.get_vocab(False)
    needed = [tokenizer.pad_token, tokenizer.eos_token]
    if kind == "CLIPTokenizer":
        needed.append(tokenizer.bos_token)
    for token in needed:
        # transformers adds what is missing at the end, where the text encoder has no embedding.
        if token not in known:
            raise TokenizerError(f"{folder}: the vocabulary lacks the special token {token!r}")
    length = _length(folder, tokenizer.model_max_length, kind)
    backend.enable_truncation(length, direction=tokenizer.truncation_side)
    backend.enable_padding(
        length=length,
        pad_id=tokenizer.pad_token_id,
        pad_token=tokenizer.pad_token,
        direction=tokenizer.padding_side,
    )
    return backend, length


def _length(folder: Path, said: Any, kind: str) -> int:
    """Tokens of a text, from the model_max_length of the config."""
    if not isinstance(said, int | float) or said < _SHORTEST:
        raise TokenizerError(
            f"{folder / 'tokenizer_config.json'}: model_max_length is {said!r}, expected a number "
            f"from {_SHORTEST}"
        )
    if kind == "T5Tokenizer" or said > _LONGEST:
        return int(min(said, LENGTH))
    return int(said)


def _read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, None where there is no such file."""
    if not path.is_file():
        return None
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(document, dict):
        raise TokenizerError(f"{path}: expected a JSON object, found {type(document).__name__}")
    return document


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the libraries' advice, which is not for people who edit pictures."""
    before = os.environ.get(_QUIET)
    os.environ[_QUIET] = "1"  # "PyTorch was not found", on first import
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ[_QUIET]
        else:
            os.environ[_QUIET] = before
