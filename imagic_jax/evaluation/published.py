"""The public benchmarks by name."""

from collections.abc import Callable
from pathlib import Path

from imagic_jax.errors import UserError
from imagic_jax.evaluation import piebench, tedbench
from imagic_jax.evaluation.edit_items import Benchmark

#: Suite -> loader (data folder, folder for what must be unpacked).
SUITES: dict[str, Callable[[Path, Path], Benchmark]] = {
    "tedbench": tedbench.load,
    "tedbench++": tedbench.load_plus,
    "piebench": piebench.load,
}


def load(suite: str, data: Path, unpacked: Path) -> Benchmark:
    """Reads a benchmark.

    Raises:
        UserError: the folder is missing or holds something else.
    """
    if not data.exists():
        raise UserError(f"--data: there is no folder {data}")
    return SUITES[suite](data, unpacked)


def recognise(data: Path) -> str:
    """The suite whose layout a folder has.

    Raises:
        UserError: none.
    """
    if (data / piebench.MAPPING).is_file():
        return "piebench"
    if any((place / tedbench.LIST).is_file() for place in (data, data / "tedbench")):
        return "tedbench"
    if any(data.glob("*.csv")):
        return "tedbench++"
    if data.suffix == ".parquet" or any(data.rglob("*.parquet")):
        return "tedbench"
    raise UserError(
        f"--inputs: {data} is no benchmark: it needs {tedbench.LIST} (a list of img_name,"
        f" target_text) and originals/, or PIE-Bench's {piebench.MAPPING}"
    )
