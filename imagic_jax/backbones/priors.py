"""What a model carries to keep its knowledge while it is tuned: pictures with their texts, encoded.

They lie beside the UNet in the base's folder, as "prior/prior.safetensors": `x0` and the fields of
`Cond`, in float16. Any base may have one, also one that was made in Python:
`params["stages"][0]["prior"] = Prior(stage.prepare(params, pictures), text.encode(..., texts)[0])`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from imagic_jax.backbones.contracts import Cond, Prior
from imagic_jax.weights import WeightsError
from imagic_jax.weights.safetensors_io import StoredTensor, open_file, write_tensors

FOLDER, FILE = "prior", "prior.safetensors"
_NEEDED, _KNOWN = {"x0", "states"}, {"x0", *Cond._fields}


def carries_prior(base: Path) -> bool:
    """Whether a base's folder holds one."""
    return (base / FOLDER / FILE).is_file()


def save_prior(base: Path, prior: Prior) -> None:
    """Writes a base's prior into its folder, complete or not at all."""
    named = {"x0": prior.x0, **prior.cond._asdict()}
    arrays = {k: np.asarray(a, np.float16) for k, a in named.items() if a is not None}
    (base / FOLDER).mkdir(parents=True, exist_ok=True)
    write_tensors(base / FOLDER / FILE, arrays)


def load_prior(folder: Path) -> Prior:
    """Reads the prior in a base's folder `prior`: float32 arrays.

    Raises:
        WeightsError: the file is broken, or no prior.
    """
    return _prior({k: jnp.asarray(t.read(np.float32)) for k, t in _open(folder).items()})


def prior_shapes(folder: Path) -> Prior:
    """`load_prior` as shapes; raises as it does."""
    stored = _open(folder)
    return _prior({k: jax.ShapeDtypeStruct(t.shape, jnp.float32) for k, t in stored.items()})


def check_prior(prior: Prior, channels: int, text_width: int) -> None:
    """Refuses a prior of another model, given as arrays or shapes.

    Raises:
        ValueError: the base runs on other channels, or reads texts of another width.
    """
    there = (prior.x0.shape[-1], prior.cond.states.shape[-1])
    if there != (channels, text_width):
        raise ValueError(
            f"the prior is of another model: its pictures have {there[0]} channels and its texts"
            f" {there[1]}, this model's {channels} and {text_width}"
        )


def _open(folder: Path) -> dict[str, StoredTensor]:
    stored = open_file(folder / FILE)
    ranks = {k: len(t.shape) for k, t in stored.items()}
    rows = {t.shape[:1] for t in stored.values()}
    whole = _NEEDED <= set(stored) <= _KNOWN and len(rows) == 1 and (0,) not in rows
    if not whole or ranks["x0"] != 4 or ranks["states"] != 3:
        raise WeightsError(
            f"{folder / FILE}: no prior, which holds as many pictures (x0: n, h, w, c) as texts"
            " (states: n, l, d), at least one, and beside them mask and pooled at most"
        )
    return stored


def _prior(fields: dict) -> Prior:
    return Prior(fields.pop("x0"), Cond(**fields))
