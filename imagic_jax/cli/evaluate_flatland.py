"""`imagic evaluate --suite=flatland` (and `imagic`): plan, run or score again, report."""

import hashlib
import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from absl import flags

from imagic_jax.cli.edit import open_model
from imagic_jax.errors import UserError


def run(
    values: flags.FlagValues,
    config: Any,
    suite: str,
    part: str,
    count: int,
    methods: Sequence[str],
    out: Path,
) -> str:
    """Runs what the flags say; returns the tables as Markdown.

    Raises:
        UserError: a flag is wrong, or the folder holds another run.
        Interrupted: stopped on request; the work so far is in `out`.
    """
    from imagic_jax.evaluation import flatland_bench, flatland_pages, flatland_report, rows
    from imagic_jax.jobs import settings
    from imagic_jax.runtime.interrupt import stop_flag
    from imagic_jax.runtime.progress import Reporter

    if values.score_only and values.report_only:
        raise UserError("give --score_only or --report_only, not both")
    resamples = settings.whole(values.resamples, "--resamples", 10, 1_000_000)
    if values.report_only:
        found, notes = rows.read(out / flatland_bench.ROWS), _notes(out)
        if not found:
            raise UserError(f"--report_only: {out / flatland_bench.ROWS} is missing or empty")
    else:
        with stop_flag() as stop, Reporter(values.quiet, every=30.0) as reporter:
            found, notes = _rows(values, config, suite, part, count, methods, out, reporter, stop)
    results = flatland_report.results(found, part, resamples=resamples)
    results = flatland_pages.with_realism(results, out)
    text = flatland_report.write(results, notes, out)
    flatland_pages.write(results, notes, out)
    return text


def _rows(
    values: flags.FlagValues,
    config: Any,
    suite: str,
    part: Any,
    count: int,
    methods: Sequence[str],
    out: Path,
    reporter: Any,
    stop: Any,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Runs or scores; returns all rows and notes about the run."""
    from imagic_jax.evaluation import contenders, extras, fidelity, flatland_bench, gates
    from imagic_jax.evaluation.items import SPLITS
    from imagic_jax.jobs import output, settings

    tier = flatland_bench.TIERS[settings.choice(values.tier, "--tier", tuple(flatland_bench.TIERS))]
    if suite == "flatland" and values.count:
        tier = tier._replace(test=count, validation=max(1, count // 2))
    if suite == "imagic":
        tier = tier._replace(test=0, validation=count)
    asked = dict.fromkeys(settings.listed(values.splits, "--splits"))
    splits = [settings.choice(s, "--splits", SPLITS) for s in asked]
    edits = _edits(values, splits if part == "test" else ["iid"])
    known = contenders.known_names()
    for name in methods:
        settings.choice(name, "--methods", known)
    listed = settings.listed(values.for_checks, "--for_checks") if values.for_checks else []
    for_checks = tuple(dict.fromkeys(n for n in listed if n not in methods))
    for name in for_checks:
        settings.choice(name, "--for_checks", known)
    strengths = settings.whole(
        values.strengths or contenders.STEPS, "--strengths", 1, contenders.STEPS
    )
    opened = open_model(values, config)[0]
    checked = settings.from_config(config, opened.cascade)
    fingerprint = opened.fingerprint()
    gate, notes = gates.gates_for(fingerprint, Path(values.gate) if values.gate else None)
    decisive = json.loads(config.to_json_best_effort())
    del decisive["example"]
    about = {
        "suite": suite,
        "part": part,
        "tier": list(tier),
        "splits": splits,
        "sweep": values.sweep,
        "weights": fingerprint,
        "config": decisive,
        "gates": gate._asdict(),
    }
    if strengths != contenders.STEPS:
        about["strengths"] = strengths
    if edits is not None:
        about["edits"] = edits
    out.mkdir(parents=True, exist_ok=True)
    output.same_run(out / "settings.json", about)
    chosen, said = flatland_bench.open_items(out, tier, splits, edits)
    stamp = {
        "version": metadata.version("imagic-jax"),
        "config": hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12],
    }
    seeds = tier.seeds if part == "test" else len(checked.seeds)
    plan = flatland_bench.Plan(
        items=chosen,
        reported=part,
        seeds={
            "test": tier.seeds,
            "validation": tier.validation_seeds if part == "test" else seeds,
        },
        gates=gate,
        marks=fidelity.draws_marks(opened.card),
        sweep_test=values.sweep,
        stamp=stamp,
        choose_eta=values.choose_eta,
        back=settings.whole(values.edit_back, "--edit_back", 0, 100_000),
        for_checks=for_checks,
        check_items=settings.whole(values.check_items, "--check_items", 1, 100_000),
    )
    ranked = extras.ranks_ideals_first(chosen[part])
    if ranked is not None:
        said.append(f"wclip ranks the ideal edit above the source for {ranked:.1%} of the items")
    notes = [f"model {opened.card['name']}, {output.device()}", *notes, *said]
    output.write_text(out / "notes.json", json.dumps(notes, indent=1) + "\n")
    for note in said:
        reporter.warn(note)
    if values.score_only:
        return flatland_bench.rescore(plan, out, reporter, stop), notes
    every = [*methods, *for_checks]
    runners = contenders.contenders(every, opened.load(), checked, strengths)
    return flatland_bench.run(plan, runners, out, reporter, stop), notes


def _edits(values: flags.FlagValues, splits: Sequence[Any]) -> list[str] | None:
    """The kinds of edits that --edits names; None where it is not given.

    Raises:
        UserError: there is no such kind, or a split has none of it.
    """
    from imagic_jax.evaluation.items import EDITS, edits_of
    from imagic_jax.jobs import settings

    if values.edits is None:
        return None
    named = list(dict.fromkeys(settings.listed(values.edits, "--edits")))
    for name in named:
        settings.choice(name, "--edits", tuple(EDITS))
        if lacking := [s for s in splits if name not in edits_of(s)]:
            raise UserError(f"--edits: the split {lacking[0]} has no {name} edits")
    return named


def _notes(out: Path) -> list[str]:
    path = out / "notes.json"
    return json.loads(path.read_text()) if path.is_file() else []
