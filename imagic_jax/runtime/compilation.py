"""The compile cache on disk, and a count of what was compiled."""

import contextlib
import dataclasses
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import jax

_COMPILE = "/jax/core/compile/backend_compile_duration"
_TRACE = (
    "/jax/core/compile/jaxpr_trace_duration",
    "/jax/core/compile/jaxpr_to_mlir_module_duration",
)


def default_cache() -> Path:
    """Where compiled programs are kept: $IMAGIC_CACHE, or ~/.cache/imagic_jax."""
    home = os.environ.get("IMAGIC_CACHE") or Path(
        os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"), "imagic_jax"
    )
    return Path(home) / "compiled"


def use_cache(folder: Path | None = None) -> Path | None:
    """Turns JAX's persistent compile cache on; None where the folder cannot be written.

    The cache holds executable code: never share a writable one.
    """
    folder = folder or default_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
    return folder


@contextlib.contextmanager
def empty_cache() -> Iterator[None]:
    """Inside the block programs are compiled into a cache that is empty at first, gone at last."""
    from jax.experimental.compilation_cache import compilation_cache

    names = (
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
        "jax_persistent_cache_min_entry_size_bytes",
    )
    before = {name: getattr(jax.config, name) for name in names}
    with tempfile.TemporaryDirectory(prefix="imagic-cache-") as folder:
        compilation_cache.reset_cache()  # JAX opens a cache once and keeps it
        jax.clear_caches()
        for name, value in zip(names, (folder, 0.0, 0), strict=True):
            jax.config.update(name, value)
        try:
            yield
        finally:
            for name, value in before.items():
                jax.config.update(name, value)
            compilation_cache.reset_cache()


@dataclasses.dataclass
class Compilations:
    """What was compiled while a `counted` block ran."""

    programs: int = 0  # compiled, or read back from the cache on disk
    seconds: float = 0.0  # tracing and lowering included


@contextlib.contextmanager
def counted(all_threads: bool = False) -> Iterator[Compilations]:
    """Counts the programs that JAX compiles inside the block: in this thread, or in all."""
    seen = Compilations()
    mine = threading.get_ident()

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if not all_threads and threading.get_ident() != mine:
            return
        if event == _COMPILE:
            seen.programs += 1
        if event == _COMPILE or event in _TRACE:
            seen.seconds += duration_secs

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
