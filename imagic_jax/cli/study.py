"""`imagic study`: a page that asks people which of two results is better, and what they said."""

import json
from pathlib import Path

from absl import flags

from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError


def define(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    text(
        "results",
        None,
        "A,B,..: two result folders or more (or NAME=DIR,..), under the benchmark's names",
        flag_values=values,
    )
    text("inputs", None, "DIR: the benchmark that they answer", flag_values=values)
    text("to", None, "DIR: where the study is made", flag_values=values)
    text(
        "truth",
        None,
        "DIR: correct results, for one trial per form whose answer is known",
        flag_values=values,
    )
    text("answers", "30", "N: answers planned per comparison", flag_values=values)
    text("trials", "20", "N: trials per form, its repetition not counted", flag_values=values)
    text("seed", "0", "N: seed of the design", flag_values=values)
    flags.DEFINE_boolean(
        "quality", False, "also ask which is of better quality", flag_values=values
    )
    text(
        "analyse",
        None,
        "FILE,..: answers that raters saved, or a folder of them",
        flag_values=values,
    )
    text("design", None, "DIR: the study that was answered", flag_values=values)


def main(values: flags.FlagValues) -> None:
    if values.analyse is not None:
        _analyse(values)
    else:
        _make(values)


def _make(values: flags.FlagValues) -> None:
    from imagic_jax.evaluation import published, study_design, study_folder
    from imagic_jax.jobs import settings

    for name in ("results", "inputs", "to"):
        if values[name].value is None:
            raise UserError(f"--{name} is missing (--results=A,B --inputs=DIR --to=DIR)")
    methods = _methods(values.results)
    inputs, to = Path(values.inputs), Path(values.to)
    truth = None if values.truth is None else Path(values.truth)
    if truth is not None and not truth.is_dir():
        raise UserError(f"--truth: there is no folder {truth}")
    planned = settings.whole(values.answers, "--answers", 1, 10_000)
    trials = settings.whole(values.trials, "--trials", 2, 200)
    seed = settings.whole(values.seed, "--seed", 0, settings.MOST_SEED)
    if not inputs.exists():
        raise UserError(f"--inputs: there is no folder {inputs}")
    unpacked = to.with_name(f"{to.name}.data")
    try:
        benchmark = published.load(published.recognise(inputs), inputs, unpacked)
    except UserError as error:
        raise UserError(str(error).replace("--data:", "--inputs:", 1)) from error
    entries, missing = study_design.collect(benchmark, methods, truth)
    pairs, alike = study_design.comparisons(entries)
    count = study_design.needed_forms(len(pairs), trials, planned)
    forms = study_design.forms(entries, pairs, trials, count, seed)
    study = study_folder.write(to, forms, list(methods), seed, values.quality)
    print(
        f"{len(pairs)} comparisons of {len(entries)} items; {count} forms of {len(forms[0])} trials"
        f" give {planned} answers to each; design {study}"
    )
    for problem in (*benchmark.problems, *missing, *alike):
        where = f" ({problem.method})" if problem.method else ""
        print(f"left out: {problem.item}: {problem.what}{where} {problem.detail}".rstrip())
    if truth is not None and not any(e.truth for e in entries):
        print(f"no trial with a known answer: {truth} holds no result of these items")
    if told := [m for m in methods if m in str((to / "page").absolute())]:
        print(f"warning: the page's address would tell raters of {', '.join(told)}; rename {to}")
    print(f"give raters {to / 'page'} (index.html#form=1 and so on); keep {to / 'key.json'}")


def _methods(text: str) -> dict[str, Path]:
    """Names and folders of --results.

    Raises:
        UserError: fewer than two, or a name twice.
    """
    from imagic_jax.jobs import settings

    found: dict[str, Path] = {}
    for part in settings.listed(text, "--results"):
        name, _, folder = part.rpartition("=")
        path = Path(folder)
        name = name or path.name
        if name in found:
            raise UserError(f"--results names {name} twice; give names, e.g. {name}2={folder}")
        found[name] = path
    if len(found) < 2:
        raise UserError("--results must name two folders or more, e.g. --results=imagic,sdedit")
    return found


def _analyse(values: flags.FlagValues) -> None:
    from imagic_jax.evaluation import rows, study_analysis, study_answers
    from imagic_jax.jobs import output, settings

    if values.design is None:
        raise UserError("--design is missing: name the folder that imagic study made")
    folder = Path(values.design)
    key = study_answers.read_key(folder)
    paths: list[Path] = []
    for name in settings.listed(values.analyse, "--analyse"):
        found = sorted(Path(name).glob("*.json")) if Path(name).is_dir() else [Path(name)]
        paths += found
    text, record, left_out = [], {}, []
    for number, question in enumerate(key["questions"]):
        raters, left_out = study_answers.read(paths, key, number)
        result = study_analysis.analyse(raters)
        record[question] = result
        text += [question, "", study_analysis.markdown(result, raters, left_out), ""]
    output.check_writable(folder)
    output.write_text(folder / "analysis.md", "\n".join(text))
    record = {"study": key["study"], "questions": record, "left_out": left_out}
    output.write_text(folder / "analysis.json", json.dumps(rows.plain(record), indent=2) + "\n")
    print("\n".join(text).rstrip())
    print(f"\nlook at {folder / 'analysis.md'}")


COMMAND = Command(
    name="study",
    summary="ask people which of two results is better",
    usage=(
        "Makes a page that opens from disk without a network: a picture, a text and two results,"
        " sides balanced, one trial repeated with its sides swapped. Raters save a file of answers;"
        " --analyse gives preference rates with intervals over raters and pictures."
    ),
    define=define,
    main=main,
    examples=(
        "imagic study --results=out/imagic/eta0.7-seed0,sdedit --inputs=tedbench --to=study",
        "imagic study --analyse=answers-1a2b.json,answers-3c4d.json --design=study",
    ),
)
