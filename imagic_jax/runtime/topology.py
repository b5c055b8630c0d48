"""TPUs that are not there: devices to compile for, on any machine that has libtpu.

libtpu compiles ahead of time for a described slice; nothing of it can be run here.
"""

import importlib.util
import os
import re
from typing import Any

from imagic_jax.errors import UserError

#: What libtpu must be told where its cores are to be one device per chip, as on a TPU VM.
_CHIP_CONFIG = {"v4": "megacore", "v5p": "megacore"}
GENERATIONS = ("v4", "v5e", "v5p", "v6e")
_EXAMPLES = "v4:2x2x1, v5p:2x2x1, v5e:2x2, v6e:2x2"


def devices_of(name: str) -> list[Any]:
    """The devices of a TPU slice named like "v4:2x2x1", one per chip.

    Raises:
        UserError: the name is none, or libtpu is missing or does not know it.
    """
    match = re.fullmatch(r"(v\w+):(\d+(?:x\d+){1,2})", name)
    if not match or match[1] not in GENERATIONS:
        raise UserError(f"--aot={name}: name a TPU slice by generation and shape: {_EXAMPLES}")
    if importlib.util.find_spec("libtpu") is None:
        raise UserError("--aot needs TPU's compiler: pip install libtpu")
    # Without these libtpu asks Google's metadata server which machine it is on, and one process
    # alone may load it, as if it took the machine's chips.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v4-8")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    from jax.experimental import topologies

    options: dict[str, Any] = {}
    if match[1] in _CHIP_CONFIG:
        options["chip_config_name"] = _CHIP_CONFIG[match[1]]
    sides = [int(n) for n in match[2].split("x")]
    if max(sides) == 1:
        options["chips_per_host_bounds"] = (1, 1, 1)
    try:
        return list(topologies.get_topology_desc(name, "tpu", **options).devices)
    except Exception as error:  # jaxlib's, of a kind that depends on its version
        raise UserError(f"--aot={name}: libtpu does not know this slice ({error})") from error
