"""Traces and scalars of loops: what is written, and when."""

import struct
import sys

import jax.numpy as jnp
import pytest

from imagic_jax.errors import UserError
from imagic_jax.runtime.observers import Profile, Scalars, file_name
from imagic_jax.runtime.progress import Reporter


class Recorder:
    """An observer that keeps what it is told."""

    def __init__(self):
        self.told, self.closed = [], 0

    def update(self, *arguments):
        self.told.append(arguments)

    def close(self):
        self.closed += 1
        return []


def scalars(folder):
    """{tag: [(step, value)]} of the event files in a folder."""
    from tensorboardX.proto import event_pb2

    found = {}
    for path in folder.glob("events.*"):
        data = path.read_bytes()
        while data:  # TFRecord: length, its checksum, the record, its checksum
            (length,) = struct.unpack("<Q", data[:8])
            event = event_pb2.Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def chunks(reporter, name, steps):
    """Tells of chunks of 1, 4, 4, .. steps, doing some work in each."""
    progress, done = reporter.stage(name, steps), 0
    while done < steps:
        more = min(4 if done else 1, steps - done)
        jnp.ones((8, 8)).sum().block_until_ready()
        done += more
        progress.update(done, more, 0.5, loss=1.0 / done)


def test_observers_are_told_of_every_chunk_and_closed_once():
    seen = Recorder()
    with Reporter(quiet=True, observers=[seen]) as reporter:
        chunks(reporter, "embedding", 6)
    assert seen.told == [
        ("embedding", 1, 1, 0.5, 1.0),
        ("embedding", 5, 4, 0.5, 0.2),
        ("embedding", 6, 1, 0.5, 1 / 6),
    ]
    assert seen.closed == 1


def test_the_third_chunk_of_each_stage_is_traced(tmp_path):
    profile = Profile(tmp_path)
    with Reporter(quiet=True, observers=[profile]) as reporter:
        chunks(reporter, "embedding", 13)
        chunks(reporter, "tuning base", 9)
        chunks(reporter, "tuning sr1", 1)
    traces = sorted(p.relative_to(tmp_path).parts[0] for p in tmp_path.rglob("*.xplane.pb"))
    assert traces == ["embedding", "tuning_base"]
    said = profile.close()
    assert said[0] == f"traces of embedding, tuning base are in {tmp_path}"
    assert said[1] == "too short to be traced: tuning sr1"


def test_a_trace_that_an_interruption_cut_is_written(tmp_path):
    with Reporter(quiet=True, observers=[Profile(tmp_path)]) as reporter:
        chunks(reporter, "embedding", 5)  # its third chunk never ends
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


def test_scalars_hold_loss_speed_and_memory(tmp_path):
    pytest.importorskip("tensorboardX")
    with Reporter(quiet=True, observers=[Scalars(tmp_path)]) as reporter:
        chunks(reporter, "tuning base", 9)
    found = scalars(tmp_path)
    assert found["tuning_base/loss"] == [
        (1, pytest.approx(1.0)),
        (5, pytest.approx(0.2)),
        (9, pytest.approx(1 / 9)),
    ]
    assert found["tuning_base/steps_per_s"] == [(5, 8.0), (9, 8.0)]  # the first compiles
    assert all(0.01 < gib < 1000 for _, gib in found["tuning_base/memory_gib"])


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(UserError, match="pip install 'imagic-jax\\[tensorboard\\]'"):
        Scalars(tmp_path)


def test_stage_names_become_file_names():
    assert file_name("tuning sr1") == "tuning_sr1"
    assert file_name("../x y ") == "x_y"
