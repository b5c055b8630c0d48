"""Output folders: continued by the same job, refused by another, cleared of nothing foreign."""

from pathlib import Path

import pytest

from imagic_jax.errors import UserError
from imagic_jax.jobs import output

JOB = {"text": "a dog", "seed": 0, "tuning": {"base": {"steps": 3}}}


def test_the_same_job_continues(tmp_path):
    folder = tmp_path / "new" / "deep"
    assert not output.open_job(folder, JOB, overwrite=False)
    assert output.open_job(folder, JOB, overwrite=False)


def test_another_job_is_refused_and_named(tmp_path):
    output.open_job(tmp_path / "a", JOB, overwrite=False)
    other = {**JOB, "tuning": {"base": {"steps": 4}}}
    with pytest.raises(UserError, match=r"different: tuning\.base\.steps"):
        output.open_job(tmp_path / "a", other, overwrite=False)


def test_a_foreign_folder_is_refused_and_overwriting_keeps_foreign_files(tmp_path):
    mine = tmp_path / "thesis.tex"
    mine.write_text("years of work")
    with pytest.raises(UserError, match="is not empty"):
        output.open_job(tmp_path, JOB, overwrite=False)
    assert not output.open_job(tmp_path, JOB, overwrite=True)
    (tmp_path / "edited_eta0_seed0.png").touch()
    (tmp_path / "fit").mkdir()
    output.open_job(tmp_path, {**JOB, "seed": 1}, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["job.json", "thesis.tex"]
    assert mine.read_text() == "years of work"


def test_what_a_killed_run_left_does_not_count(tmp_path):
    (tmp_path / ".job.json.4711").write_text('{"te')
    assert not output.open_job(tmp_path, JOB, overwrite=False)


def test_a_half_written_job_file_is_no_job(tmp_path):
    (tmp_path / "job.json").write_text('{"text": "a d')
    with pytest.raises(UserError, match="--overwrite"):
        output.open_job(tmp_path, JOB, overwrite=False)


def test_folders_that_cannot_be_written_are_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()
    for folder in (file, file / "below"):
        with pytest.raises(UserError, match="is a file"):
            output.open_job(folder, JOB, overwrite=False)
    with pytest.raises(UserError, match="cannot be written"):
        output.check_writable(Path("/proc/nothing/here"))
    output.check_writable(tmp_path / "new" / "deep")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_default_folders_are_named_after_picture_and_text():
    name = output.default_folder("bird", 'A bird: "spreading" its wings/../..').as_posix()
    assert name == "imagic_out/bird-a-bird-spreading-its-wings"
    assert len(output.default_folder("x", "word " * 100).name) <= 72
