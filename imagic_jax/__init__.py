"""imagic_jax: text-based editing of real pictures with diffusion models, in JAX.

The public doors for weights: `load_part(folder)` opens one network of a model folder, and
`load_cascade("A[,B[,C]]")` a whole model. They are imported when they are first asked for.
"""

from typing import Any

_DOORS = {
    "load_cascade": "imagic_jax.backbones.registry",
    "load_part": "imagic_jax.weights",
    "save_part": "imagic_jax.weights",
}
__all__ = ["load_cascade", "load_part", "save_part"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_DOORS[name]), name)
