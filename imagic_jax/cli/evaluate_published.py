"""The part of `imagic evaluate` about public benchmarks: TEdBench, TEdBench++, PIE-Bench."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags

from imagic_jax.cli import method_flags
from imagic_jax.errors import UserError

#: In the order of the help page; `evaluation.published` has their loaders.
SUITES = ("tedbench", "tedbench++", "piebench")


def define(values: flags.FlagValues) -> None:
    """Flags of these suites alone."""
    text = flags.DEFINE_string
    text("data", None, "DIR: a public benchmark's data", flag_values=values)
    text("methods", None, "NAME,..: methods that run or are scored", flag_values=values)
    text(
        "results",
        None,
        "DIR: where --score_only finds a folder per method, or NAME=DIR,.. (default: the data)",
        flag_values=values,
    )
    switch = flags.DEFINE_boolean
    switch("score_only", False, "score results that exist, without a model", flag_values=values)
    switch("check_memory", True, "refuse edits that cannot fit into memory", flag_values=values)
    text("score_size", "512", "N: pixels per side at which pictures are compared",
         flag_values=values)  # fmt: skip
    text("metrics", None, "NAME,..: scores (default: what the field reports)", flag_values=values)
    text(
        "metric_weights",
        None,
        "DIR: weights of the scores' networks; without them those scores are left out",
        flag_values=values,
    )
    method_flags.define_clip(values)
    text(
        "choose_by",
        None,
        "SCORE: what picks the best of several results, in columns of its own",
        flag_values=values,
    )


def main(values: flags.FlagValues, suite: str) -> None:
    """Runs methods unless --score_only, scores, and prints the table."""
    from imagic_jax.evaluation import (
        measures,
        published,
        published_differences,
        published_sheet,
        results,
    )
    from imagic_jax.evaluation import published_table as tables
    from imagic_jax.jobs import output, settings
    from imagic_jax.runtime.progress import Reporter

    if values.data is None:
        raise UserError(f"--data is missing: say where {suite} lies, e.g. --data=tedbench")
    methods = list(dict.fromkeys(settings.listed(values.methods or "imagic", "--methods")))
    if results.COPY in methods:
        raise UserError("--methods: copy is always there, as the first line of the table")
    size = settings.whole(values.score_size, "--score_size", 16, 4096)
    data, out = Path(values.data), Path(values.out or f"imagic_out/evaluate-{suite}")
    output.check_writable(out)
    benchmark = published.load(suite, data, out / "unpacked")
    if values.count is not None:
        benchmark = benchmark.first(settings.whole(values.count, "--count", 1, 100_000))
    names = settings.listed(values.metrics, "--metrics") if values.metrics else None
    masks = all(i.mask is not None for i in benchmark.items)
    weights = Path(values.metric_weights) if values.metric_weights else None
    scores = measures.open_for(names, masks=masks, weights=weights)
    known = scores.metrics
    choose = measures.chooser(known, values.choose_by)
    with Reporter(values.quiet, every=30.0) as reporter:
        if values.score_only:
            where = _results(values.results, benchmark.items[0].image, data, methods)
            those = [c for m in methods for c in results.candidates(m, where[m])]
            wrong, told = [], []
            out.mkdir(parents=True, exist_ok=True)
        else:
            those, wrong, told = _run(values, benchmark, methods, out, reporter)
        those = [results.Candidate(results.COPY, None), *those]
        rows, strange = results.score(
            benchmark, those, scores, size, out / "scores.jsonl", reporter
        )
    table = tables.lines(rows, known, choose)
    kinds = tables.by_type(rows, known)
    apart = published_differences.differences(rows, known)
    named = tables.problems(benchmark, rows, [*wrong, *strange])
    text = tables.markdown(benchmark, table, known, choose, size, named, scores.missing)
    if told:
        text += "\n\nGiven besides picture and target text:\n\n" + "\n".join(told)
    if apart:
        text += "\n\n" + published_differences.markdown(apart, known)
    if kinds:
        text += "\n\n" + tables.kinds_table(kinds, known)
    sheet = published_sheet.sheet(benchmark, those, rows, known[0])
    output.save_picture(sheet, out / "sheet.png")
    output.write_text(out / "table.md", text + "\n")
    output.write_text(
        out / "table.json", json.dumps(_record(table, kinds, apart, named), indent=2) + "\n"
    )
    print(text)
    print(f"\nlook at {out}")


def _run(
    values: flags.FlagValues, benchmark: Any, methods: Sequence[str], out: Path, reporter: Any
) -> tuple[list[Any], list[Any], list[str]]:
    """Edits what is left of every method.

    Returns:
        Candidates, problems, and what methods were given besides picture and target text: their
        rows are no equals.
    """
    from imagic_jax.cli.edit import apply_rendering, open_model
    from imagic_jax.evaluation import benchmark_editors, editing, results
    from imagic_jax.jobs import memory
    from imagic_jax.jobs.methods import checked_name
    from imagic_jax.runtime.interrupt import stop_flag

    names = [checked_name(m, "--methods") for m in methods]
    apply_rendering(values, values.config)
    opened, notes = open_model(values, values.config)
    works = [_work(name, values, opened) for name in names]
    extras = {w.name: benchmark_editors.extras(w, benchmark.items) for w in works}
    for work in works:
        if values.check_memory:
            memory.check(opened, work.memory_settings())
    for note in notes:
        reporter.warn(note)
    candidates, wrong = [], []
    with stop_flag() as stop:
        for work in works:
            wrong += editing.run(benchmark, work, opened, out, reporter, stop)
            candidates += results.candidates(work.name, out / work.name)
    return candidates, wrong, [f"* {m}: {', '.join(g)}" for m, g in extras.items() if g]


def _work(name: str, values: flags.FlagValues, opened: Any) -> Any:
    """A method with its settings; what an item gives it is added item by item."""
    from imagic_jax.jobs.methods import IMAGIC

    if name == IMAGIC:
        return method_flags.imagic_work(values.config, opened.cascade, None)
    return method_flags.method_work(
        name,
        values.config,
        opened.cascade,
        method_flags.Beside(),
        None,
        clip=values.clip,
        model=opened.card["name"],
    )


def _results(asked: str | None, image: Path, data: Path, methods: Sequence[str]) -> dict[str, Path]:
    """The folder of each method's results.

    The authors' results lie beside `originals/`; unpacked Parquet files have both elsewhere.
    """
    if asked is None:
        around = list(image.parents)[:3]
        return {m: next((p / m for p in around if (p / m).is_dir()), data / m) for m in methods}
    if "=" not in asked:
        return {m: Path(asked) / m for m in methods}
    named = dict(part.split("=", 1) for part in asked.split(",") if "=" in part)
    for method in methods:
        if method not in named:
            raise UserError(f"--results names no folder for {method}; add {method}=DIR")
    return {m: Path(named[m]) for m in methods}


def _record(
    table: Sequence[Any], kinds: Sequence[Any], apart: Sequence[Any], named: Any
) -> dict[str, Any]:
    from imagic_jax.evaluation import rows

    def line(one: Any) -> dict[str, Any]:
        values = {k: {i: v._asdict() for i, v in one._asdict()[k].items()}
                  for k in ("fixed", "best")}  # fmt: skip
        return {"name": one.name, "items": one.items, "best_of": one.best_of, **values}

    return rows.plain(
        {
            "table": [line(t) for t in table],
            "differences": [
                {"name": d.name, "values": {i: v._asdict() for i, v in d.values.items()}}
                for d in apart
            ],
            "by_type": [line(k) for k in kinds],
            "problems": named,
        }
    )
