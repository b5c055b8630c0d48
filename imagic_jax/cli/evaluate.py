"""`imagic evaluate`: measure a model or an editor on Flatland's ground truth."""

import json
from pathlib import Path

from absl import flags

from imagic_jax.cli import evaluate_published as public
from imagic_jax.cli.edit import AUTO, DEFAULT_PRESET, apply_rendering, define_model, open_model
from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError

SUITES = ("flatland", "imagic", "fidelity", "gate", *public.SUITES)
_COUNTS = {"fidelity": 200, "gate": 300, "imagic": 40}
_METHODS = {
    "flatland": "imagic,imagic_no_tuning,imagic_no_embedding,text_only,copy",
    "imagic": "imagic,imagic_no_tuning,text_only,copy",
}


def define(values: flags.FlagValues) -> None:
    text, switch = flags.DEFINE_string, flags.DEFINE_boolean
    text("suite", "imagic", f"NAME: {', '.join(SUITES)}", flag_values=values)
    text("part", None, "NAME: validation or test (default: test for flatland)", flag_values=values)
    text("tier", "smoke", "NAME: size of flatland: smoke, dev or full", flag_values=values)
    text("splits", "iid", "NAME,NAME,..: splits of flatland's test items", flag_values=values)
    text(
        "edits",
        None,
        "NAME,NAME,..: kinds of edits of flatland and imagic, evenly (default: all, more poses):"
        " pose, colour, class, hat, place, style",
        flag_values=values,
    )
    define_model(values)
    text(
        "count",
        None,
        "N: pictures, or items (default: 200 for fidelity, 300 for gate, 40, all)",
        flag_values=values,
    )
    text("eta", None, "E,E,..: amounts of the edit; the largest ends the sweep", flag_values=values)
    text("seeds", None, "N,N,..: seeds of the sampling noise", flag_values=values)
    text("guidance", None, "W: classifier-free guidance of the base model", flag_values=values)
    text("steps", None, "N: sampling steps of the base model", flag_values=values)
    text("gate", None, "FILE: gate of valid pictures, from --suite=gate", flag_values=values)
    text("resamples", "10000", "N: resamples of the intervals", flag_values=values)
    text(
        "strengths",
        None,
        "N: strengths of each method, evenly over its range up to the strongest; fewer than the"
        " default, 11, leave the weakest out (eta = 0)",
        flag_values=values,
    )
    switch(
        "sweep",
        True,
        "draw every strength on test items, not the chosen one alone",
        flag_values=values,
    )
    switch("choose_eta", True, "score Imagic's pictures as --eta=auto would", flag_values=values)
    text("edit_back", "0", "N: flatland items that are also edited back", flag_values=values)
    text(
        "for_checks",
        None,
        "NAME,..: methods drawn on a few validation items alone, for the paper's findings",
        flag_values=values,
    )
    text("check_items", "24", "N: those items", flag_values=values)
    switch("report_only", False, "make tables and figures from the saved rows", flag_values=values)
    text("out", None, "DIR: results (default: imagic_out/evaluate-SUITE-PART)", flag_values=values)
    public.define(values)
    switch("quiet", False, "show no progress", flag_values=values)


def main(values: flags.FlagValues) -> None:
    from imagic_jax.jobs import output, settings
    from imagic_jax.runtime.progress import Reporter

    suite = settings.choice(values.suite, "--suite", SUITES)
    if values.eta == AUTO:
        raise UserError("--eta=auto is for edits; here, every strength is drawn and scored")
    if suite in public.SUITES:
        return public.main(values, suite)
    default = "test" if suite == "flatland" else "validation"
    part = settings.choice(values.part or default, "--part", ("validation", "test"))
    count = settings.whole(values.count or _COUNTS.get(suite, 1), "--count", 1, 100_000)
    config = values.config
    apply_rendering(values, config)
    out = Path(values.out) if values.out else Path("imagic_out") / f"evaluate-{suite}-{part}"
    output.check_writable(out)
    if suite in _METHODS:
        from imagic_jax.cli import evaluate_flatland

        asked = settings.listed(values.methods or _METHODS[suite], "--methods")
        methods = list(dict.fromkeys(asked))
        print(evaluate_flatland.run(values, config, suite, part, count, methods, out))
        print(f"\nlook at {out / 'report.html'}")
        return
    loaded = open_model(values, config)[0].load()
    checked = settings.from_config(config, loaded.cascade)
    out.mkdir(parents=True, exist_ok=True)
    decisive = json.loads(config.to_json_best_effort())
    # These draw from text: nothing is fitted.
    decisive = {n: decisive[n] for n in ("model", "sampling", "seeds")} | {"count": count}
    weights = loaded.opened.fingerprint()
    about = {"suite": suite, "part": part, "weights": weights, "config": decisive}
    output.same_run(out / "settings.json", about)
    with Reporter(values.quiet, every=30.0) as reporter:
        run = _fidelity if suite == "fidelity" else _gate
        table = run(loaded, checked, part, count, out, reporter)
    print(table)
    print(f"\nlook at {out}")


def _fidelity(loaded, settings, part, count, out: Path, reporter) -> str:
    from imagic_jax.evaluation import fidelity
    from imagic_jax.jobs import output, pictures
    from imagic_jax.report.strips import enlarge, grid

    summaries = {}
    for split in ("iid", "held-out", "phrase"):
        kept = out / f"rows-{split}.jsonl"  # a split that was measured before is not drawn again
        if kept.is_file():
            rows = [json.loads(line) for line in kept.read_text().splitlines()]
        else:
            rows, drawn = fidelity.measure(loaded, settings, split, count, reporter, part)
            shown = [enlarge(pictures.to_pil(p), 96) for p in drawn[:32]]
            rows_of = [shown[i : i + 8] for i in range(0, len(shown), 8)]
            output.save_picture(grid(rows_of, [""] * 8), out / f"samples-{split}.png")
            output.write_text(kept, "".join(json.dumps(r) + "\n" for r in rows))
        summaries[split] = fidelity.summary(rows)
    lines = ["| split | prompts | named factors right | all named right |", "|---|---|---|---|"]
    for split, s in summaries.items():
        lines.append(
            f"| {split} | {s['prompts']} | {s['named_factors_right']:.3f} |"
            f" {s['all_named_right']:.3f} |"
        )
    output.write_text(out / "summary.json", json.dumps(summaries, indent=2) + "\n")
    return "\n".join(lines)


def _gate(loaded, settings, part, count, out: Path, reporter) -> str:
    from imagic_jax.evaluation import gates

    found = gates.measure(loaded, settings, count, reporter)
    gates.freeze(found, out / "gate.json")
    return json.dumps(found, indent=2)


COMMAND = Command(
    name="evaluate",
    summary="measure text fidelity or edits, on Flatland's ground truth or public benchmarks",
    usage=(
        "flatland: edits benchmark pictures by several methods, chooses each method's strength on"
        " validation pictures, and scores the edits against the ideal ones. imagic: the same on"
        " validation pictures alone. fidelity: draws pictures from captions and reads their"
        " factors. gate: measures which pictures count as valid for a model. tedbench, tedbench++,"
        " piebench: the same settings for every item of a public benchmark, or --score_only for"
        " results that exist. Interrupted, it goes on."
    ),
    define=define,
    main=main,
    examples=(
        "imagic evaluate --suite=fidelity --count=200",
        "imagic evaluate --suite=flatland --tier=dev --methods=imagic,imagic_no_tuning,sdedit,copy",
        "imagic evaluate --suite=flatland --tier=dev --report_only",
        "imagic evaluate --suite=tedbench --data=tedbench --config=sd15 --eta=0.7",
        "imagic evaluate --suite=tedbench --data=tedbench --methods=imagic --score_only",
    ),
    preset=DEFAULT_PRESET,
    models=True,
)
