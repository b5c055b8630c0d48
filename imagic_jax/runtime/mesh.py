"""The devices of a job as a mesh with the axes `image`, `sample` and `fsdp`.

    image    different pictures: each has its devices to itself, nothing is communicated
    sample   more noise draws of one picture: the batch of draws is divided, gradients are averaged
    fsdp     weights and optimizer of models larger than one device are divided

Devices of a mesh that differ in `image` alone work on different pictures; those that differ in
`sample` or `fsdp` work on the same one. A single device is the mesh 1 x 1 x 1.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from imagic_jax.errors import UserError
from imagic_jax.typing import Array

AXES = ("image", "sample", "fsdp")
_HINT = "write --mesh=image:4, or several axes as --mesh=image:2,sample:2"


def parse_mesh(text: str) -> dict[str, int]:
    """Sizes of all axes, from the value of `--mesh`, e.g. "image:2,sample:2".

    Raises:
        UserError: an axis is unknown or given twice, or a size is no whole number above 0.
    """
    sizes: dict[str, int] = {}
    for part in text.split(","):
        name, colon, size = (s.strip() for s in part.partition(":"))
        if name not in AXES or not colon:
            known = ", ".join(AXES)
            raise UserError(f"--mesh: {part.strip()!r} names no axis of {known}; {_HINT}")
        if name in sizes:
            raise UserError(f"--mesh={text} gives {name} twice; {_HINT}")
        if not (size.isascii() and size.isdigit()) or int(size) == 0:
            raise UserError(f"--mesh: the size of {name} must be a whole number above 0; {_HINT}")
        sizes[name] = int(size)
    return {axis: sizes.get(axis, 1) for axis in AXES}


def make_meshes(
    sizes: Mapping[str, int], count: int = 1, devices: Sequence[Any] | None = None
) -> tuple[Mesh, ...]:
    """`count` meshes of the same sizes, on the first devices and on those that follow.

    Args:
        sizes: of all axes, for this process alone; see `parse_mesh`.
        count: how many meshes, without a device in common.
        devices: what there is to choose from (default: this process's devices).

    Raises:
        UserError: there are not enough devices.
    """
    there = list(jax.local_devices() if devices is None else devices)
    shape = tuple(sizes[axis] for axis in AXES)
    each = math.prod(shape)
    if each * count > len(there):
        words = " x ".join(f"{axis} {n}" for axis, n in zip(AXES, shape, strict=True) if n > 1)
        twice = f", for {count} stages side by side" if count > 1 else ""
        raise UserError(
            f"--mesh asks for {each * count} devices ({words or 'one'}{twice}) and there"
            f" {'is' if len(there) == 1 else 'are'} {len(there)}; on a CPU,"
            f" XLA_FLAGS=--xla_force_host_platform_device_count={each * count} simulates as many"
        )
    rows = [there[i * each : (i + 1) * each] for i in range(count)]
    return tuple(Mesh(np.array(row, object).reshape(shape), AXES) for row in rows)


def one_device() -> Mesh:
    """The mesh of the first device alone."""
    return make_meshes(dict.fromkeys(AXES, 1))[0]


def lanes_of(mesh: Mesh) -> int:
    """How many pictures a mesh works on at a time."""
    return mesh.shape["image"]


def weight_spec(shape: Sequence[int], parts: int) -> P:
    """How an array of weights or of optimizer state is divided over `fsdp`: along its largest
    dimension that the axis divides; not at all where there is none."""
    able = [i for i, n in enumerate(shape) if parts > 1 and n >= parts and n % parts == 0]
    if not able:
        return P()
    longest = max(able, key=lambda i: (shape[i], i))
    return P(*(None,) * longest, "fsdp")


def divide_draws(x: Array) -> Array:
    """Divides the first axis, that of noise draws, over the devices that share a picture.

    Called while a program is traced; without such devices around it, or where they do not divide
    the axis, `x` is returned as it is. The values stay those of one device.
    """
    sizes = jax.sharding.get_abstract_mesh().shape
    axes = tuple(a for a in ("sample", "fsdp") if sizes.get(a, 1) > 1)
    while axes and x.shape[0] % math.prod(sizes[a] for a in axes):
        axes = axes[:-1]
    return jax.lax.with_sharding_constraint(x, P(axes)) if axes else x
