"""Reading the answers of a user study: files that raters saved, against the study's key."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagic_jax.errors import UserError
from imagic_jax.evaluation.study_design import TRUTH


class Choice(NamedTuple):
    """One answer to one comparison."""

    rater: str
    item: str
    group: str  # the picture
    chosen: str  # methods
    other: str
    left: bool  # the left side was chosen
    seconds: float


class Rater(NamedTuple):
    """All answers of one person.

    Attributes:
        consistent: the repeated trial got the same answer; None if one of the two is missing.
        gold: the trial with a known answer was answered right; None if there was none.
    """

    name: str
    choices: tuple[Choice, ...]
    consistent: bool | None
    gold: bool | None
    finished: bool


def read_key(folder: Path) -> dict[str, Any]:
    """The key of a study.

    Raises:
        UserError: there is none, or it is broken.
    """
    path = folder / "key.json"
    if not path.is_file():
        raise UserError(f"--design: {folder} is no study: it has no key.json")
    try:
        key = json.loads(path.read_text(encoding="utf-8"))
        return {n: key[n] for n in ("study", "methods", "questions", "trials", "forms")}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"--design: {path} is broken or of another version") from error


def read(
    paths: Sequence[Path], key: Mapping[str, Any], question: int = 0
) -> tuple[list[Rater], list[str]]:
    """Raters, and a sentence for every file that was left out.

    A file may hold one record or a list of them. Of several records of one rater, the longest
    counts.

    Raises:
        UserError: a file is missing, or nothing is left.
    """
    found: dict[str, Rater] = {}
    left_out = []
    for path in paths:
        if not path.is_file():
            raise UserError(f"--analyse: there is no file {path}")
        try:
            records = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            left_out.append(f"{path}: broken or cut off")
            continue
        for record in records if isinstance(records, list) else [records]:
            wrong = _wrong(record, key)
            if wrong:
                left_out.append(f"{path}: {wrong}")
                continue
            rater = _rater(record, key, question)
            before = found.get(rater.name)
            if before is not None:
                left_out.append(f"{path}: rater {rater.name} again; the longer record counts")
            if before is None or len(rater.choices) > len(before.choices):
                found[rater.name] = rater
    if not found:
        raise UserError(f"--analyse: no usable answers; {left_out[0] if left_out else 'no files'}")
    return list(found.values()), left_out


def _wrong(record: Any, key: Mapping[str, Any]) -> str:
    """Why a record cannot be used, or ""."""
    if not isinstance(record, dict) or not isinstance(record.get("answers"), list):
        return "no answers of this program"
    if record.get("study") != key["study"]:
        return "answers of another study (its design has another hash)"
    if not isinstance(record.get("rater"), str) or not record["rater"]:
        return "no rater"
    seen = set()
    for number, answer in enumerate(record["answers"], 1):
        name = answer.get("trial") if isinstance(answer, dict) else None
        trial = key["trials"].get(name) if isinstance(name, str) else None
        if trial is None or trial["form"] != record.get("form") or name in seen:
            return f"answer {number} belongs to no trial of its form"
        seen.add(name)
        choices, times = answer.get("choices"), answer.get("rt_ms")
        if not isinstance(choices, list) or any(c not in ("left", "right") for c in choices):
            return f"answer {number} is neither left nor right"
        if not isinstance(times, list) or not all(isinstance(t, int | float) for t in times):
            return f"answer {number} has no times"
        if not len(choices) == len(times) == len(key["questions"]):
            return f"answer {number} answers {len(choices)} of {len(key['questions'])} questions"
    return ""


def _rater(record: Mapping[str, Any], key: Mapping[str, Any], question: int) -> Rater:
    by_kind: dict[str, list[Choice]] = {"main": [], "duplicate": [], "gold": []}
    for answer in record["answers"]:
        trial = key["trials"][answer["trial"]]
        side = answer["choices"][question]
        other = "right" if side == "left" else "left"
        by_kind[trial["kind"]].append(
            Choice(
                record["rater"],
                trial["item"],
                trial["group"],
                trial[side],
                trial[other],
                side == "left",
                answer["rt_ms"][question] / 1000.0,
            )
        )
    finished = len(record["answers"]) == sum(
        t["form"] == record["form"] for t in key["trials"].values()
    )
    main = tuple(by_kind["main"])
    return Rater(record["rater"], main, _consistent(by_kind), _gold(by_kind), finished)


def _consistent(by_kind: Mapping[str, Sequence[Choice]]) -> bool | None:
    for again in by_kind["duplicate"]:
        for first in by_kind["main"]:
            if first.item == again.item and {first.chosen, first.other} == {
                again.chosen,
                again.other,
            }:
                return first.chosen == again.chosen
    return None


def _gold(by_kind: Mapping[str, Sequence[Choice]]) -> bool | None:
    return by_kind["gold"][0].chosen == TRUTH if by_kind["gold"] else None
