"""`imagic evaluate`: measure a model or an editor on Flatland's ground truth."""

import json
from pathlib import Path

from absl import flags

from imagic_jax.cli import evaluate_published as public
from imagic_jax.cli.edit import DEFAULT_PRESET, apply_rendering, define_model, open_model
from imagic_jax.cli.flagging import Command

SUITES = ("fidelity", "imagic", *public.SUITES)


def define(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    text("suite", "imagic", f"NAME: {' or '.join(SUITES)}", flag_values=values)
    text("part", "validation", "NAME: validation or test", flag_values=values)
    define_model(values)
    text("count", None, "N: pictures (default: 200 for fidelity, 40, all)", flag_values=values)
    text("eta", None, "E,E,..: amounts of the edit", flag_values=values)
    text("seeds", None, "N,N,..: seeds of the sampling noise", flag_values=values)
    text("guidance", None, "W: classifier-free guidance of the base model", flag_values=values)
    text("steps", None, "N: sampling steps of the base model", flag_values=values)
    text("out", None, "DIR: results (default: imagic_out/evaluate-SUITE-PART)", flag_values=values)
    public.define(values)
    flags.DEFINE_boolean("quiet", False, "show no progress", flag_values=values)


def main(values: flags.FlagValues) -> None:
    from imagic_jax.jobs import output, settings
    from imagic_jax.runtime.progress import Reporter

    suite = settings.choice(values.suite, "--suite", SUITES)
    if suite in public.SUITES:
        return public.main(values, suite)
    part = settings.choice(values.part, "--part", ("validation", "test"))
    default = 200 if suite == "fidelity" else 40
    count = settings.whole(values.count or default, "--count", 1, 100_000)
    config = values.config
    apply_rendering(values, config)
    out = Path(values.out) if values.out else Path("imagic_out") / f"evaluate-{suite}-{part}"
    output.check_writable(out)
    loaded = open_model(values, config)[0].load()
    checked = settings.from_config(config, loaded.cascade)
    out.mkdir(parents=True, exist_ok=True)
    decisive = json.loads(config.to_json_best_effort())
    if suite == "fidelity":  # draws from text: nothing is fitted, and splits are measured whole
        decisive = {n: decisive[n] for n in ("model", "sampling", "seeds")} | {"count": count}
    weights = loaded.opened.fingerprint()
    about = {"suite": suite, "part": part, "weights": weights, "config": decisive}
    output.same_run(out / "settings.json", about)
    with Reporter(values.quiet, every=30.0) as reporter:
        run = _fidelity if suite == "fidelity" else _imagic
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


def _imagic(loaded, settings, part, count, out: Path, reporter) -> str:
    from imagic_jax.evaluation import figures, imagic_bench
    from imagic_jax.evaluation.items import items
    from imagic_jax.jobs import output

    chosen = items(part, count)
    rows = imagic_bench.run(loaded, chosen, settings, out, reporter)
    table = imagic_bench.table(rows)
    output.write_text(out / "table.json", json.dumps(table, indent=2) + "\n")
    markdown = imagic_bench.markdown(table)
    output.write_text(out / "table.md", markdown + "\n")
    first = figures.by_hash(chosen, 16)
    sheet = figures.contact_sheet(first, out / "pictures", settings.etas)
    output.save_picture(sheet, out / "contact_sheet.png")
    strip = figures.ablation_strip(first[:3], out / "pictures", settings.etas)
    output.save_picture(strip, out / "ablation.png")
    return markdown


COMMAND = Command(
    name="evaluate",
    summary="measure text fidelity or edits, on Flatland's ground truth or public benchmarks",
    usage=(
        "fidelity: draws pictures from captions and reads their factors. imagic: edits benchmark"
        " pictures and scores them against the ideal edits, beside copying the input, sampling"
        " from the text and editing without fine-tuning. tedbench, tedbench++, piebench: the same"
        " settings for every item of a public benchmark, or --score_only for results that exist."
        " Interrupted, it goes on."
    ),
    define=define,
    main=main,
    examples=(
        "imagic evaluate --suite=fidelity --count=200",
        "imagic evaluate --suite=imagic --count=40 --seeds=0,1,2,3",
        "imagic evaluate --suite=tedbench --data=tedbench --config=sd15 --eta=0.7",
        "imagic evaluate --suite=tedbench --data=tedbench --methods=imagic --score_only",
    ),
    preset=DEFAULT_PRESET,
    models=True,
)
