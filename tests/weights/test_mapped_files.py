"""Files are read through a memory map: nothing of it may stay in what was loaded."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.weights import load_part

T5_FILE = "model.safetensors"


@pytest.mark.parametrize("place", [None, lambda path, array: jax.device_put(array)])
def test_a_file_that_changes_later_changes_no_loaded_weight(model_folder, place):
    folder = model_folder("t5_encoder")
    _, params = load_part(folder, place=place)
    before = jax.tree.map(lambda a: np.array(a, copy=True), params)
    path = folder / T5_FILE
    with path.open("r+b") as file:  # in place: the same file, not a new one under its name
        file.seek(path.stat().st_size // 2)
        file.write(b"\x7f" * (path.stat().st_size // 2))
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_tensors_may_lie_at_any_byte(model_folder):
    """The format aligns its header by spaces; files without them exist."""
    folder = model_folder("t5_encoder")
    expected = load_part(folder)[1]
    data = (folder / T5_FILE).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), separators=(",", ":")).encode()
    header += b" " * (len(header) % 2 == 0)
    moved = len(header).to_bytes(8, "little") + header + data[8 + length :]
    (folder / T5_FILE).write_bytes(moved)
    jax.tree.map(np.testing.assert_array_equal, load_part(folder)[1], expected)


def test_the_caller_s_precision_and_device_hold_in_the_threads_that_read(model_folder):
    folder, device = model_folder("t5_encoder"), jax.devices()[-1]
    with jax.enable_x64(True), jax.default_device(device):
        _, params = load_part(folder, param_dtype=jnp.float64)
    leaves = jax.tree.leaves(params)
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float64")}
    assert {d for leaf in leaves for d in leaf.devices()} == {device}
