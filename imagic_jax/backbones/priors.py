"""What a model carries to keep its knowledge while it is tuned: pictures with their texts, encoded.

They lie beside the UNet in the base's folder, as "prior/prior.safetensors": `x0` and the fields of
`Cond`, in float16. Any base may have one, also one that was made in Python:
`params["stages"][0]["prior"] = Prior(stage.prepare(params, pictures), text.encode(..., texts)[0])`.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from imagic_jax.backbones.contracts import Cond, Prior
from imagic_jax.errors import UserError

FOLDER, FILE = "prior", "prior.safetensors"
_NEEDED, _KNOWN = {"x0", "states"}, {"x0", *Cond._fields}


def carries_prior(base: Path) -> bool:
    """Whether a base's folder holds one."""
    return (base / FOLDER / FILE).is_file()


def save_prior(base: Path, prior: Prior) -> None:
    """Writes a base's prior into its folder."""
    named = {"x0": prior.x0, **prior.cond._asdict()}
    arrays = {k: np.asarray(a, np.float16) for k, a in named.items() if a is not None}
    (base / FOLDER).mkdir(parents=True, exist_ok=True)
    path = base / FOLDER / FILE
    save_file(arrays, path)
    path.chmod(0o644)  # safetensors writes for the owner alone


def load_prior(folder: Path) -> Prior:
    """Reads the prior in a base's folder `prior`: float32 arrays.

    Raises:
        UserError: the file is broken, or no prior.
    """
    try:
        with safe_open(folder / FILE, framework="numpy") as file:
            found = {k: jnp.asarray(file.get_tensor(k), jnp.float32) for k in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder / FILE} cannot be read: {error}") from error
    if not _NEEDED <= set(found) <= _KNOWN or len({len(a) for a in found.values()}) != 1:
        raise UserError(
            f"{folder / FILE} is no prior: it must hold as many rows of x0 as of states, and"
            f" nothing else but {', '.join(sorted(_KNOWN - _NEEDED))}"
        )
    x0 = found.pop("x0")
    return Prior(x0, Cond(**found))


def prior_shapes(folder: Path) -> Prior:
    """`load_prior` as shapes."""
    return jax.eval_shape(lambda: load_prior(folder))
