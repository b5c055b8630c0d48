"""Folders in a bucket (here fsspec's memory) behave as folders on a disk, as far as jobs need."""

import fsspec
import pytest
from etils.epath import backend
from PIL import Image as pil

from imagic_jax.errors import UserError
from imagic_jax.jobs import output
from imagic_jax.jobs.lists import read_list
from imagic_jax.jobs.pictures import digest, load_source
from imagic_jax.jobs.summary import Entry, write_summary
from imagic_jax.runtime import paths


@pytest.fixture
def bucket(monkeypatch):
    store = fsspec.filesystem("memory")
    monkeypatch.setattr(backend._FileSystemSpecBackend, "_get_filesystem", lambda *_: store)
    strip = type(store)._strip_protocol
    monkeypatch.setattr(
        type(store), "_strip_protocol", classmethod(lambda _, p: strip(str(p).replace("gs:/", "")))
    )
    yield paths.to_path("gs://bucket/edits")
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def test_a_job_is_opened_continued_refused_and_cleared(bucket):
    job = {"text": "a dog"}
    output.check_writable(bucket)
    assert not output.open_job(bucket, job, overwrite=False)
    assert output.open_job(bucket, job, overwrite=False)
    with pytest.raises(UserError, match="different: text"):
        output.open_job(bucket, {"text": "a cat"}, overwrite=False)
    output.save_picture(pil.new("RGB", (4, 4)), bucket / "strip.png")
    output.write_text(bucket / "fit" / "arrays" / "a.txt", "1")
    assert [p.name for p in paths.files_below(bucket / "fit")] == ["a.txt"]
    output.clear(bucket)
    assert not (bucket / "strip.png").exists()
    assert not (bucket / "fit").exists()


def test_lists_pictures_and_summaries(bucket):
    output.save_picture(pil.new("RGB", (32, 32), "red"), bucket / "dog.png")
    output.write_text(bucket / "jobs.jsonl", '{"image": "dog.png", "text": "a dog"}\n')
    (row,) = read_list(bucket / "jobs.jsonl")
    assert not row.error
    source = load_source(row.path, 16)
    assert source.square.shape == (1, 16, 16, 3)
    assert digest(row.path) == source.digest
    entry = Entry(line=1, image="dog.png", text="a dog", status="failed", error="why")
    write_summary(bucket, [entry])
    assert "| 1 | dog.png | a dog | failed: why |" in (bucket / "summary.md").read_text()


def test_addresses_that_lead_nowhere_are_told():
    with pytest.raises(UserError, match="nowhere://x"):
        paths.to_path("nowhere://x/y")


def test_what_is_written_is_whole(tmp_path):
    paths.write_bytes(tmp_path / "a", b"one")
    paths.write_bytes(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    paths.remove(tmp_path / "nowhere")
