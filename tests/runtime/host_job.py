"""One process of a job of several, for `test_hosts`: fits its share of four toy pictures.

python host_job.py COORDINATOR NUM_PROCESSES PROCESS_ID DEVICES OUT
"""

import sys
import time
from pathlib import Path

import jax
import numpy as np
import test_lanes as toy

from imagic_jax.errors import UserError
from imagic_jax.runtime import hosts, lanes
from imagic_jax.runtime.checkpoint import Checkpoints


def main(coordinator, processes, process, devices, out):
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", int(devices))
    try:
        hosts.connect(coordinator, int(processes), int(process), timeout=60)
    except UserError as error:
        sys.exit(str(error))
    mine = hosts.my_share(range(4))
    state, _ = toy.run(f"image:{devices}", [toy.own_of(i) for i in mine])
    for lane, i in enumerate(mine):
        value = lanes.take(state.value, lane)
        with Checkpoints(out / str(i)) as saved:  # as every picture of a job is saved
            saved.save(9, value)
        with Checkpoints(out / str(i)) as saved:
            step, back = saved.restore_newest(value)
        assert step == 9
        np.savez(out / f"{i}.npz", **back)
    while hosts.is_first() and len(list(out.glob("*.npz"))) < 4:
        time.sleep(0.2)  # Orbax needs process 0 to the end


if __name__ == "__main__":
    main(*sys.argv[1:5], Path(sys.argv[5]))
