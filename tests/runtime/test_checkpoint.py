"""Checkpoints come back bit for bit, and half-written ones are as if they never were."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imagic_jax.runtime.checkpoint import Checkpoints, own_process
from imagic_jax.runtime.compilation import counted

STATE = {
    "w": jnp.arange(6.0).reshape(2, 3) / 7,
    "count": jnp.int32(3),
    "h": jnp.ones(2, "bfloat16"),
}


def test_the_newest_comes_back_bit_for_bit(tmp_path):
    with Checkpoints(tmp_path) as saved:
        assert saved.latest_step() is None
        for step in (1, 2, 3):
            saved.save(step, {**STATE, "count": jnp.int32(step)})
    with Checkpoints(tmp_path) as saved:
        assert saved.latest_step() == 3
        back = saved.restore(STATE)
        for name, value in {**STATE, "count": jnp.int32(3)}.items():
            assert back[name].dtype == value.dtype
            np.testing.assert_array_equal(
                np.asarray(back[name], np.float32), np.asarray(value, np.float32)
            )
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.isdigit()) == ["2", "3"]


def test_a_save_is_not_touched_by_what_happens_to_the_arrays_later(tmp_path):
    array = np.zeros(1000, np.float32)
    with Checkpoints(tmp_path) as saved:
        saved.save(1, {"a": array})
        array += 1.0
    with Checkpoints(tmp_path) as saved:
        assert float(saved.restore({"a": jnp.zeros(1000)})["a"].max()) == 0.0


def test_a_half_written_checkpoint_is_not_seen(tmp_path):
    with Checkpoints(tmp_path) as saved:
        saved.save(4, STATE)
    (tmp_path / "9.orbax-checkpoint-tmp-1").mkdir()
    (tmp_path / "9.orbax-checkpoint-tmp-1" / "junk").write_text("cut off")
    with Checkpoints(tmp_path) as saved:
        assert saved.latest_step() == 4


def test_nothing_to_restore_is_said(tmp_path):
    with Checkpoints(tmp_path) as saved, pytest.raises(FileNotFoundError):
        saved.restore(STATE)


def test_going_on_from_a_checkpoint_compiles_nothing(tmp_path):
    step = jax.jit(lambda s: jax.tree.map(lambda a: a + a, s))
    step(STATE)
    with Checkpoints(tmp_path) as saved:
        saved.save(1, STATE)
        back = saved.restore(STATE)
    with counted() as compiled:
        step(back)
    assert compiled.programs == 0


def test_processes_number_their_saves_apart(monkeypatch):
    """Orbax's signals carry a save's number alone, on one board for all processes."""
    from orbax.checkpoint._src.futures import synchronization
    from orbax.checkpoint._src.serialization import type_handlers

    ids = synchronization.OperationIdGenerator
    monkeypatch.setattr(type_handlers, "multihost", type_handlers.multihost)
    for name in ("_operation_id", "_operation_id_counter"):
        monkeypatch.setattr(ids, name, getattr(ids, name))
    seen = []
    for process in (0, 1, 2):
        monkeypatch.setattr(jax, "process_index", lambda process=process: process)
        for _ in range(3):  # several times in one process: the numbers go on
            own_process()
            seen.append(ids.next_operation_id())
    assert len(set(seen)) == 9
    assert [n // 2**40 for n in seen] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
