"""A user study of two alternatives (2AFC): who sees which pair, on which side, in which order.

After the Imagic paper's Appendix C: a rater sees a picture, a text and two results, one trial twice
with its sides swapped. Everything is drawn from one seed and balanced: each comparison is shown
equally often (within one), and on either side equally often (within one). Where correct answers
exist, each form has one trial whose answer is known (the right edit against another picture).
"""

import hashlib
import itertools
import json
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from imagic_jax.errors import UserError
from imagic_jax.evaluation.edit_items import Benchmark, Problem, find_output

QUESTION = "Which result applies the text better while keeping the rest of the input?"
QUALITY = "Which result is of better quality?"
GAP = 5  # trials between a trial and its repetition
TRUTH, UNRELATED = "correct answer", "unrelated picture"


class Entry(NamedTuple):
    """What there is to show of one item."""

    item: str
    group: str
    text: str
    input: Path
    results: Mapping[str, Path]  # by method
    truth: Path | None = None


class Trial(NamedTuple):
    """One screen."""

    kind: str  # main, duplicate or gold
    entry: Entry
    left: str  # a method; TRUTH or UNRELATED in a gold trial
    right: str
    unrelated: Path | None = None

    def swapped(self) -> "Trial":
        """The same with its sides exchanged: the repetition."""
        return self._replace(kind="duplicate", left=self.right, right=self.left)

    def picture(self, method: str) -> Path:
        """The file of one side."""
        path = {TRUTH: self.entry.truth, UNRELATED: self.unrelated}.get(method)
        return path or self.entry.results[method]


def collect(
    benchmark: Benchmark, methods: Mapping[str, Path], truth: Path | None
) -> tuple[list[Entry], list[Problem]]:
    """Items with at least two results, and the results that are missing.

    Raises:
        UserError: a folder is missing, or no item has two results.
    """
    for name, folder in methods.items():
        if not folder.is_dir():
            raise UserError(f"--results: there is no folder {folder} (of {name})")
    entries, problems = [], []
    for item in benchmark.items:
        found = {m: find_output(f, item) for m, f in methods.items()}
        problems += [Problem("result missing", item.id, "", m) for m, p in found.items() if not p]
        there = {m: p for m, p in found.items() if p}
        if len(there) >= 2:
            right = None if truth is None else find_output(truth, item)
            entries.append(Entry(item.id, item.group, item.target_text, item.image, there, right))
    if not entries:
        example = benchmark.items[0].output
        raise UserError(f"--results: no item has two results; expected names such as {example}")
    return entries, problems


def comparisons(entries: Sequence[Entry]) -> tuple[list[tuple[Entry, str, str]], list[Problem]]:
    """Every item with every pair of methods; pairs of identical files cannot be compared."""
    found, problems = [], []
    for entry in entries:
        digests = {m: hashlib.sha256(p.read_bytes()).digest() for m, p in entry.results.items()}
        for a, b in itertools.combinations(entry.results, 2):
            if digests[a] == digests[b]:
                problems.append(Problem("identical results", entry.item, f"{a} and {b}"))
            else:
                found.append((entry, a, b))
    if not found:
        raise UserError("--results: all results of the methods are identical; nothing to compare")
    return found, problems


def forms(
    entries: Sequence[Entry],
    pairs: Sequence[tuple[Entry, str, str]],
    trials: int,
    count: int,
    seed: int,
) -> list[list[Trial]]:
    """The trials of every form.

    Args:
        entries: all items, for gold trials.
        pairs: what is compared.
        trials: main trials per form; no more than there are comparisons.
        count: number of forms.
        seed: of everything that is drawn.
    """
    rng = random.Random(f"study/{seed}")
    shown: Counter[int] = Counter()
    flipped = [rng.random() < 0.5 for _ in pairs]
    made = []
    for _ in range(count):
        order = list(range(len(pairs)))
        rng.shuffle(order)
        chosen = sorted(order, key=lambda i: shown[i])[: min(trials, len(pairs))]
        rng.shuffle(chosen)
        form = []
        for i in chosen:
            entry, a, b = pairs[i]
            form.append(Trial("main", entry, *((b, a) if flipped[i] else (a, b))))
            flipped[i] = not flipped[i]
            shown[i] += 1
        made.append(_with_gold(_with_duplicate(form, rng), entries, rng))
    return made


def _with_duplicate(form: list[Trial], rng: random.Random) -> list[Trial]:
    """One trial again, sides swapped, at least `GAP` trials later where the form is long enough."""
    gap = min(GAP, len(form))
    first = rng.randrange(len(form) - gap + 1)
    again = rng.randrange(first + gap, len(form) + 1)
    return [*form[:again], form[first].swapped(), *form[again:]]


def _with_gold(form: list[Trial], entries: Sequence[Entry], rng: random.Random) -> list[Trial]:
    """One trial whose answer is known, if there are correct answers."""
    known = [e for e in entries if e.truth is not None]
    if not known:
        return form
    entry = rng.choice(known)
    others = [e for e in entries if e.group != entry.group]
    if not others:
        return form
    sides = [TRUTH, UNRELATED]
    rng.shuffle(sides)
    gold = Trial("gold", entry, *sides, unrelated=rng.choice(others).input)
    where = rng.randrange(1, len(form) + 1)  # between the two alike it only widens the gap
    return [*form[:where], gold, *form[where:]]


def needed_forms(pairs: int, trials: int, answers: int) -> int:
    """Forms until every comparison was shown `answers` times."""
    return -(-answers * pairs // min(trials, pairs))


def design_hash(public: Mapping[str, Any]) -> str:
    """The hash that ties answers to a design."""
    text = json.dumps(public, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
