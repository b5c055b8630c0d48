"""Lists of edits, spread over lanes and processes: what `imagic edit --inputs` does.

Every edit has a folder of its own, so the folders are the record of what is done: a run does what
they lack. Pictures are read a group at a time.
"""

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from imagic_jax.backbones.contracts import Cond
from imagic_jax.backbones.registry import Opened
from imagic_jax.errors import UserError
from imagic_jax.jobs import disk, memory, output, pictures
from imagic_jax.jobs.edit import edit, encode_texts
from imagic_jax.jobs.imagic_work import ImagicWork
from imagic_jax.jobs.lists import Row
from imagic_jax.jobs.rendering import drawn_with
from imagic_jax.jobs.request import EditRequest, Prepared, checked_text, job_of, prepare
from imagic_jax.jobs.summary import Entry, write_summary
from imagic_jax.jobs.work import Work
from imagic_jax.jobs.workshop import Place, Workshop
from imagic_jax.runtime import hosts
from imagic_jax.runtime.interrupt import Interrupted, StopFlag
from imagic_jax.runtime.loop import NonFiniteLoss
from imagic_jax.runtime.paths import AnyPath
from imagic_jax.runtime.progress import Reporter

_LOOK_EVERY = 2.0  # seconds
_FAILURES = ".failures"  # a file per edit that failed, for the summary of the first process
Encoded = dict[str, tuple[Cond, ...]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ListRequest:
    """A list of edits.

    Attributes:
        rows: from `lists.read_list`.
        like: what all have in common; its image, text and out are not looked at.
        work: the editor for a row's amounts, seeds of the sampling and seed of the fit, each None
            for the preset's.
        out: where every edit's folder and the summary go.
        wait: seconds without a new result of other processes before the first writes the summary.
    """

    rows: Sequence[Row]
    like: EditRequest
    work: Callable[[Any, Any, Any], Work]
    out: AnyPath
    wait: float = 3600.0


def edit_list(
    asked: ListRequest, opened: Opened, place: Place, reporter: Reporter, stop: StopFlag
) -> list[Entry]:
    """Does what is missing of a list and writes the summary; returns its rows.

    Raises:
        UserError: the settings or the folder cannot be used.
        NoRoom: the disk is full.
        Interrupted: stopped on request; what was done is in the folders.
    """
    asked.out.mkdir(parents=True, exist_ok=True)
    for row in asked.rows:
        if row.error and hosts.is_first():
            reporter.warn(f"line {row.number} is skipped: {row.error}")
    mine = hosts.my_share([r for r in asked.rows if not r.error])
    missing = [r for r in mine if not is_done(_request(asked, r), opened)]
    before = {r.number for r in mine} - {r.number for r in missing}
    unfitted = [r for r in missing if not (asked.out / r.out / "fit" / "fit.json").is_file()]
    _check(asked, opened, place, len(unfitted))
    others = f" of {len(asked.rows)}, on process {jax.process_index()}" if _several() else ""
    reporter.say(f"{len(mine)} edits{others}, {len(before)} of them done before")
    try:
        if missing:
            if isinstance(asked.like.work, ImagicWork):
                ahead = bool(unfitted)
                _edit_missing(asked, missing, len(mine), ahead, opened, place, reporter, stop)
            else:
                _one_by_one(asked, missing, len(mine), opened, reporter, stop)
    except Interrupted:
        if not _several():
            write_summary(asked.out, _entries(asked, before))
        raise
    if not hosts.is_first():
        return _entries(asked, before, mine)
    if not _await_others(asked, mine, opened, stop):
        reporter.warn("other processes have not ended: the summary tells what is there so far")
    entries = _entries(asked, before)
    write_summary(asked.out, entries)
    return entries


def _await_others(asked: ListRequest, mine: Sequence[Row], opened: Opened, stop: StopFlag) -> bool:
    """Waits for the other processes' results; False if none came for long, or on request."""
    left = [r for r in asked.rows if not r.error and r not in mine]
    since = time.monotonic()
    while left:
        here = [r for r in left if _is_ended(asked, r, opened)]
        if here:
            since = time.monotonic()
            left = [r for r in left if r not in here]
        elif stop or time.monotonic() - since > asked.wait:
            return False
        else:
            time.sleep(_LOOK_EVERY)
    return True


def _is_ended(asked: ListRequest, row: Row, opened: Opened) -> bool:
    request = _request(asked, row)
    return _failure(asked.out, request.out).is_file() or is_done(request, opened)


def _several() -> bool:
    return jax.process_count() > 1


def _request(asked: ListRequest, row: Row) -> EditRequest:
    """One row as an edit."""
    work = asked.work(row.etas, row.seeds, row.seed)
    out = asked.out / row.out
    return dataclasses.replace(asked.like, image=row.path, text=row.text, out=out, work=work)


def is_done(request: EditRequest, opened: Opened) -> bool:
    """Whether a folder holds this edit's results already. The picture is not decoded."""
    try:
        job = json.loads((request.out / "job.json").read_text())
        result = json.loads((request.out / "result.json").read_text())
        digest, text = pictures.digest(request.image), checked_text(request.text)
        asked = job_of(request.work, text, digest, job["box"], opened)
        drawn = {**drawn_with(request.work), "negative": request.negative, "crop": request.crop}
        files = [request.out / row["file"] for row in result["outputs"]]
        return (
            job == json.loads(json.dumps(asked))
            and all(result[k] == v for k, v in json.loads(json.dumps(drawn)).items())
            and all(("pasted" in row) == request.paste_back for row in result["outputs"])
            and all(f.is_file() for f in files)
            and not request.overwrite
        )
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return False


def _check(asked: ListRequest, opened: Opened, place: Place, unfitted: int) -> None:
    """Refuses what cannot work, or does not fit into memory or on the disk.

    Raises:
        UserError: naming the setting.
    """
    like = asked.like
    like.work.check(opened)
    if like.check_memory:
        settings = like.work.memory_settings()
        memory.check(opened, settings, place.meshes)
        lanes, keep = place.lanes, like.keep_checkpoints
        disk.check(asked.out, opened, settings, unfitted, lanes, place.saving, keep)


def _one_by_one(
    asked: ListRequest,
    missing: Sequence[Row],
    total: int,
    opened: Opened,
    reporter: Reporter,
    stop: StopFlag,
) -> None:
    """Edits what is missing by a method that takes one picture at a time."""
    done = total - len(missing)
    progress = reporter.stage("pictures", total, done)
    for row in missing:
        request = _request(asked, row)
        _failure(asked.out, request.out).unlink(missing_ok=True)
        try:
            edit(request, opened, reporter, stop)
        except (UserError, NonFiniteLoss) as error:
            _note_failure(asked.out, request.out, error)
            reporter.warn(f"line {row.number} is skipped: {error}")
        done += 1
        reporter.clear_stages(progress)
        progress.advance(done)


def _edit_missing(
    asked: ListRequest,
    missing: Sequence[Row],
    total: int,
    fitting: bool,
    opened: Opened,
    place: Place,
    reporter: Reporter,
    stop: StopFlag,
) -> None:
    """Edits what is missing, a group of as many as there are lanes at a time."""
    negative = asked.like.negative
    texts = [checked_text(r.text) for r in missing]
    encoded = _encode(opened, [*texts, "", *filter(None, [negative])])
    null, away = encoded[""], encoded[negative] if negative else None
    for row in missing:
        _failure(asked.out, asked.out / row.out).unlink(missing_ok=True)
    done = total - len(missing)
    progress = reporter.stage("pictures", total, done)
    queue = _prepared(asked, missing, opened, place, reporter)
    workshop = Workshop(
        opened, asked.like.work.settings, place, null, away, null, reporter, stop, named=True
    )
    with workshop:
        workshop.compile_ahead(fitting=fitting)
        while group := list(itertools.islice(queue, place.lanes)):
            began = time.perf_counter()
            idle = [None] * (place.lanes - len(group))
            lanes = [(p, encoded[p.text]) for p in group]
            outcomes = workshop.edit([*lanes, *idle], began)
            for prepared, outcome in zip(group, outcomes, strict=False):
                if isinstance(outcome, Exception):
                    _note_failure(asked.out, prepared.request.out, outcome)
                    reporter.warn(f"{prepared.request.out.name}: {outcome}")
            done += len(group)
            reporter.clear_stages(progress)
            progress.advance(done)


def edit_alone(
    request: EditRequest, opened: Opened, place: Place, reporter: Reporter, stop: StopFlag
) -> dict[str, Any]:
    """One edit by Imagic at a place of its own: as `edit.edit`, for one picture in a lane.

    Raises:
        UserError, Interrupted, NonFiniteLoss: see `edit.edit`.
    """
    began = time.perf_counter()
    prepared = prepare(request, opened)
    like = dataclasses.replace(request, work=prepared.work)
    asked = ListRequest(rows=(), like=like, work=lambda *_: like.work, out=request.out)
    _check(asked, opened, place, 0 if prepared.fitted else 1)
    _open(prepared, place)
    for note in prepared.notes:
        reporter.warn(note)
    negative = request.negative
    encoded = _encode(opened, [prepared.text, "", *filter(None, [negative])])
    away = encoded[negative] if negative else None
    null, target = encoded[""], encoded[prepared.text]
    workshop = Workshop(opened, like.work.settings, place, null, away, null, reporter, stop)
    with workshop:
        workshop.compile_ahead(fitting=not prepared.fitted)
        idle = [None] * (place.lanes - 1)
        outcome, *_ = workshop.edit([(prepared, target), *idle], began)
    if isinstance(outcome, Exception):
        raise outcome
    assert outcome is not None
    return outcome


def _open(prepared: Prepared, place: Place) -> None:
    """Makes the request's folder the place of its job, emptied where it shall not go on.

    Raises:
        UserError: it holds something else, or cannot be written.
    """
    request = prepared.request
    if output.open_job(request.out, prepared.job, request.overwrite) and not place.saving.resume:
        output.clear(request.out)
        output.open_job(request.out, prepared.job, request.overwrite)


def _encode(opened: Opened, texts: Sequence[str]) -> Encoded:
    """Every different text as the stages read it, on the host."""
    once = list(dict.fromkeys(texts))
    return dict(zip(once, jax.device_get(encode_texts(opened, once)), strict=True))


def _prepared(
    asked: ListRequest, rows: Sequence[Row], opened: Opened, place: Place, reporter: Reporter
) -> Iterator[Prepared]:
    """Reads the pictures one after the other; those that cannot be used are noted and skipped."""
    for row in rows:
        request = _request(asked, row)
        try:
            prepared = prepare(request, opened)
            _open(prepared, place)
        except UserError as error:
            _note_failure(asked.out, request.out, error)
            reporter.warn(f"line {row.number} is skipped: {error}")
            continue
        for note in prepared.notes:
            if note not in asked.like.notes:
                reporter.warn(f"{request.out.name}: {note}")
        yield prepared


def _failure(root: AnyPath, folder: AnyPath) -> AnyPath:
    return root / _FAILURES / (folder.relative_to(root).as_posix().replace("/", "_") + ".txt")


def _note_failure(root: AnyPath, folder: AnyPath, error: Exception) -> None:
    path = _failure(root, folder)
    path.parent.mkdir(exist_ok=True)
    output.write_text(path, f"{error}\n")


def _entries(
    asked: ListRequest, before: set[int], rows: Sequence[Row] | None = None
) -> list[Entry]:
    """What the folders say about every row, or some."""
    return [_entry(asked, row, before) for row in (asked.rows if rows is None else rows)]


def _entry(asked: ListRequest, row: Row, before: set[int]) -> Entry:
    told: dict[str, Any] = {"line": row.number, "image": row.image, "text": row.text}
    if row.error:
        return Entry(**told, status="broken line", error=row.error)
    folder = asked.out / row.out
    failure = _failure(asked.out, folder)
    if failure.is_file():
        error = failure.read_text().strip()
        return Entry(**told, folder=row.out, status="failed", error=error)
    try:
        result = json.loads((folder / "result.json").read_text())
    except (OSError, ValueError):
        return Entry(**told, folder=row.out, status="not done yet")
    return Entry(
        **told,
        folder=row.out,
        status="done before" if row.number in before else "done",
        strengths=result["strengths"],
        seeds=result["seeds"],
        reconstruction_psnr=result.get("reconstruction_psnr"),
        embedding_distance=result.get("embedding_distance"),
        seconds=result["timings"]["total_s"],
        warnings=len(result["warnings"]),
    )
