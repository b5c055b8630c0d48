"""`imagic bench`: where an edit's time goes, here or on a TPU that is not there."""

from pathlib import Path

from absl import flags

from imagic_jax.cli.edit import DEFAULT_PRESET, define_model, open_model, preset_name
from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError


def define(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    define_model(values)
    text("size", None, "N: working size in pixels (default: the model's)", flag_values=values)
    text(
        "stages",
        None,
        "PART,PART,..: what to measure: text, encode, embed, tune, sample, decode, edit, or one"
        ' in full, as "tune base" (default: all)',
        flag_values=values,
    )
    text("repeats", "5", "N: timed calls per part", flag_values=values)
    text("json", None, "FILE: also write the numbers there", flag_values=values)
    text(
        "aot",
        None,
        "SLICE: compile for this TPU in place of measuring here: v4:2x2x1, v5e:2x2, v5p:2x2x1,"
        " v6e:2x2, ..; parts that FILE of --json holds already are not compiled again",
        flag_values=values,
    )
    text(
        "fsdp", "1", "N: with --aot, spread weights and optimizer over N chips", flag_values=values
    )
    text(
        "effort",
        None,
        "X: how hard the compiler tries, from -1 to 1 (default: the compiler's own)",
        flag_values=values,
    )
    flags.DEFINE_boolean("quiet", False, "show no progress", flag_values=values)


def main(values: flags.FlagValues) -> None:
    from rich.console import Console

    from imagic_jax.jobs import aot, output, settings
    from imagic_jax.jobs import bench as job
    from imagic_jax.report import bench_tables
    from imagic_jax.runtime.progress import Reporter

    config, file = values.config, Path(values.json) if values.json else None
    wanted = () if values.stages is None else settings.listed(values.stages, "--stages")
    repeats = settings.whole(values.repeats, "--repeats", 1, 1000)
    fsdp = settings.whole(values.fsdp, "--fsdp", 1, 4096)
    effort = None if values.effort is None else settings.number(values.effort, "--effort")
    if effort is not None and not -1 <= effort <= 1:
        raise UserError(f"--effort must lie in -1..1, got {values.effort}")
    for name, given in (("fsdp", fsdp > 1), ("effort", effort is not None)):
        if given and values.aot is None:
            raise UserError(f"--{name} goes with --aot")
    if file is not None:
        output.check_writable(file.parent, "--json")
    if values.aot is not None and "architecture" in config and values.model is None:
        values.random_weights = True  # shapes are all that a compiler wants
    platform = None if values.aot is None else "tpu"
    if fsdp > 1:
        config.attention = "plain"  # XLA cannot divide a kernel over chips
    opened, notes = open_model(values, config, values.size, platform)
    checked = settings.from_config(config, opened.cascade)
    console = Console(width=None if Console().is_terminal else 160)
    with Reporter(values.quiet) as reporter:
        if values.aot is not None:
            target = aot.Target(values.aot, fsdp, effort)
            result = aot.compile_parts(
                opened, checked, preset_name(values), target, wanted, file, reporter
            )
            console.print(bench_tables.compiled(result))
            return
        for note in notes:
            reporter.warn(note)
        result = job.bench(opened, checked, wanted, repeats, reporter)
    result = {"preset": preset_name(values), **result}
    if file is not None:
        output.write_json(file, result)
    console.print(bench_tables.measured(result))


COMMAND = Command(
    name="bench",
    summary="measure where an edit's time goes",
    usage=(
        "Times every part of an edit on this machine (compiling, encoding, a step of each"
        " optimisation, a sampling step, decoding, the whole), beside the floors that arithmetic"
        " and memory set. With --aot it compiles every part for a TPU that need not be there and"
        " says whether it fits and what it costs at least."
    ),
    define=define,
    main=main,
    examples=(
        "imagic bench",
        "imagic bench --config=sd15 --random_weights --stages=embed,tune --repeats=3",
        "imagic bench --config=sd15 --aot=v4:2x2x1 --json=sd15-v4.json",
    ),
    preset=DEFAULT_PRESET,
    models=True,
)
