"""Which files of a published repository this package reads.

A repository keeps every network several times over (full and half precision, pickles, ONNX, other
frameworks, old single-file checkpoints). Pure functions of its listing.
"""

import re
from collections.abc import Collection, Iterable
from pathlib import PurePosixPath

# Folders of published pipelines that no part of an edit reads.
_UNUSED = {
    "safety_checker",
    "feature_extractor",
    "watermarker",
    "image_encoder",
    "vae_1_0",
    "vae_encoder",
    "vae_decoder",
    "onnx",
    "openvino",
}
_TOKENIZER_FILES = {"merges.txt", "spiece.model"}
_STEM = "(?:diffusion_pytorch_model|model)"
_SHARD = r"-\d{5}-of-\d{5}"
# In the order in which a folder is read: one file before shards, full precision before half.
_FORMS = [
    (re.compile(rf"{_STEM}\.safetensors"), None),
    (
        re.compile(rf"{_STEM}{_SHARD}\.safetensors"),
        re.compile(rf"{_STEM}\.safetensors\.index\.json"),
    ),
    (re.compile(rf"{_STEM}\.fp16\.safetensors"), None),
    (
        re.compile(rf"{_STEM}(?:\.fp16{_SHARD}|{_SHARD}\.fp16)\.safetensors"),
        re.compile(rf"{_STEM}(?:\.fp16\.safetensors\.index|\.safetensors\.index\.fp16)\.json"),
    ),
]
_INDEX = re.compile(r".*\.index(\.\w+)?\.json")
_PICKLE = re.compile(r"(?:pytorch_model|diffusion_pytorch_model).*\.bin|.*\.(?:ckpt|pt|pth)")


def wanted_files(listing: Iterable[str], parts: Collection[str] | None = None) -> list[str]:
    """Those files of a repository that are read: configs, tokenizers, one precision of weights.

    Args:
      listing: paths of all files of the repository, with `/`.
      parts: top folders that matter; files at the root always do. None for all.

    Returns:
      Sorted paths. Of every model folder's weights there is the first of: one full-precision file,
      full-precision shards, one fp16 file, fp16 shards. Single-file checkpoints are left out.
    """
    wanted = []
    for folder, names in _folders(listing, parts).items():
        chosen = [
            n
            for n in names
            if n in _TOKENIZER_FILES or (n.endswith(".json") and not _INDEX.fullmatch(n))
        ]
        if "config.json" in names:
            chosen += _weights(names)
        wanted += [str(folder / n) for n in chosen]
    return sorted(wanted)


def pickled_folders(listing: Iterable[str], parts: Collection[str] | None = None) -> list[str]:
    """The folders of a repository whose weights are there as pickles alone (`.` is its root).

    The root counts only where no other folder has weights, and not when parts are asked for:
    pipelines often keep old single-file checkpoints there.
    """
    folders = _folders(listing, parts)
    readable = {f for f, names in folders.items() if any(_is_weights(n) for n in names)}
    pickled = {f for f, names in folders.items() if any(_PICKLE.fullmatch(n) for n in names)}
    root = PurePosixPath(".")
    if parts is not None or (readable | pickled) - {root}:
        pickled.discard(root)
    return sorted(str(f) for f in pickled - readable)


def _folders(
    listing: Iterable[str], parts: Collection[str] | None
) -> dict[PurePosixPath, list[str]]:
    """{folder: names of its files}, of the folders that matter."""
    folders: dict[PurePosixPath, list[str]] = {}
    for path in map(PurePosixPath, listing):
        above = path.parent.parts
        outside = parts is not None and above and above[0] not in parts
        if not outside and not _UNUSED.intersection(above):
            folders.setdefault(path.parent, []).append(path.name)
    return folders


def _weights(names: list[str]) -> list[str]:
    """The weights of one folder in one precision, with their index where they are shards."""
    for weights, index in _FORMS:
        chosen = [n for n in names if weights.fullmatch(n)]
        if index is not None:
            indices = [n for n in names if index.fullmatch(n)]
            chosen = chosen + indices if indices else []
        if chosen:
            return chosen
    return []


def _is_weights(name: str) -> bool:
    return any(form.fullmatch(name) for form, _ in _FORMS)
