"""The list of a benchmark's items as JSON: factors, nuisance seed, texts, and what they look like.

Pictures are drawn again, not shipped; the sha256 of every rendered picture (uint8) tells whether
another machine draws the same ones.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from imagic_jax.evaluation.items import Item
from imagic_jax.flatland import factors as fx


def to_bytes(pictures: Float[np.ndarray, "*b h w 3"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """Pictures in [0, 1] as they are kept on disk."""
    return np.clip(np.asarray(pictures) * 255.0 + 0.5, 0, 255).astype(np.uint8)


def digest(picture: UInt8[np.ndarray, "h w 3"]) -> str:
    """sha256 of a picture's bytes."""
    return hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()


def entry(item: Item) -> dict[str, Any]:
    """One item as JSON values."""
    source, ideals = (to_bytes(p) for p in item.pictures())
    return {
        "name": item.name,
        "edit": item.edit,
        "split": item.split,
        "text": item.text,
        "source_text": item.source_text,
        "source": fx.describe(item.source),
        "ideals": [fx.describe(g) for g in item.ideals],
        "nuisance_seed": item.nuisance_seed,
        "source_sha256": digest(source),
        "ideal_sha256": [digest(p) for p in ideals],
    }


def manifest(items: Sequence[Item]) -> list[dict[str, Any]]:
    """All items as JSON values."""
    return [entry(i) for i in items]


def read(entries: Sequence[dict[str, Any]]) -> list[Item]:
    """The items of a manifest.

    Raises:
        KeyError, ValueError: it is no manifest of this world.
    """
    return [
        Item(
            name=e["name"],
            edit=e["edit"],
            split=e["split"],
            source=fx.make(**e["source"]),
            ideals=tuple(fx.make(**g) for g in e["ideals"]),
            text=e["text"],
            source_text=e["source_text"],
            nuisance_seed=e["nuisance_seed"],
        )
        for e in entries
    ]


def drawn_otherwise(entries: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the items whose pictures come out differently on this machine."""
    return [e["name"] for e, i in zip(entries, read(entries), strict=True) if entry(i) != e]
