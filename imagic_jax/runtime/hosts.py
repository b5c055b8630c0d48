"""Many processes, one per host: found each other, numbered, and waited for at the end.

On a Cloud TPU pod slice every worker runs the same command and JAX finds the others by itself;
elsewhere flags say who is where. Work is divided by process and results go to a shared folder, so
processes meet once, at the start, for a limited time; then they are told who is missing. After that
only the first waits for the others, by looking at their results; one of them that dies takes no
other with it.
"""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import jax

from imagic_jax.errors import UserError

T = TypeVar("T")


def connect(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    timeout: int = 300,
    give_up: Callable[[str], None] = lambda reason: None,
) -> None:
    """Joins the other processes of the job, if there are any. Before anything else uses JAX.

    Args:
        coordinator: HOST:PORT of process 0; None on Cloud TPU, or for one process alone.
        num_processes, process_id: how many there are and which this is (from 0); given together
            with `coordinator`.
        timeout: seconds to wait for the others.
        give_up: called from another thread, with the reason, when they have not come by then. It
            should end the process: JAX would, by an abort, half a minute later.

    Raises:
        UserError: the flags do not belong together, or the others cannot be reached.
    """
    given = (coordinator, num_processes, process_id)
    if all(v is None for v in given):
        if not _pod_worker() or jax.distributed.is_initialized():
            return
    elif coordinator is None or num_processes is None or process_id is None:
        raise UserError("--coordinator, --num_processes and --process_id are given together")
    elif not 0 <= process_id < num_processes:
        raise UserError(
            f"--process_id={process_id} must lie in 0..{num_processes - 1} for"
            f" --num_processes={num_processes}"
        )
    elif ":" not in coordinator or not coordinator.rpartition(":")[2].isdigit():
        raise UserError(f"--coordinator={coordinator} must be HOST:PORT of process 0")
    elif num_processes == 1:
        return
    reason = _who_is_missing(coordinator, num_processes, timeout)
    jax.config.update("jax_enable_recoverability", True)
    watchdog = threading.Timer(timeout, give_up, (reason,))
    watchdog.daemon = True
    watchdog.start()
    try:
        jax.distributed.initialize(
            coordinator, num_processes, process_id, initialization_timeout=timeout + 30
        )
    except Exception as error:  # of several kinds, from C++
        if "must be called before" in str(error):
            raise  # JAX was used too early: no fault of the other processes
        raise UserError(reason) from error
    finally:
        watchdog.cancel()


def _who_is_missing(coordinator: str | None, num_processes: int | None, timeout: int) -> str:
    if coordinator is None or num_processes is None:
        return (
            f"after {timeout} s not all workers of this TPU slice have come: the same command must"
            " run on every one of them, e.g. by gcloud compute tpus tpu-vm ssh NAME --worker=all"
            " --command=...; to use this worker's chips alone, add --alone"
        )
    return (
        f"after {timeout} s the {num_processes} processes of this job have not all met at"
        f" {coordinator}: start one with each --process_id from 0 to {num_processes - 1}, and"
        " check that this address can be reached from all of them"
    )


def _pod_worker() -> bool:
    """Whether this is one of several workers of a TPU slice."""
    names = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    if names:
        return "," in names
    chips = any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return chips and os.environ.get("JAX_PLATFORMS", "tpu").startswith("tpu") and _has_libtpu()


def _has_libtpu() -> bool:
    from importlib.util import find_spec

    return find_spec("libtpu") is not None


def alone() -> None:
    """Makes this worker of a TPU slice a machine of its own. Before anything else uses JAX."""
    os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
    os.environ["TPU_WORKER_ID"] = "0"
    os.environ.setdefault("TPU_PROCESS_BOUNDS", "1,1,1")


def process_count() -> int:
    """How many processes the job has."""
    return jax.process_count()


def is_first() -> bool:
    """Whether this process writes what the job has in common."""
    return jax.process_index() == 0


def my_share(work: Sequence[T]) -> list[T]:
    """Every n-th piece of work, from this process's number on."""
    return list(work[jax.process_index() :: jax.process_count()])
