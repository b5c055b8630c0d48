"""`imagic render`: draw a saved fit again, without fitting."""

from pathlib import Path

from absl import flags

from imagic_jax.cli import method_flags
from imagic_jax.cli.edit import AUTO, apply_rendering, define_rendering, print_result
from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError


def define(values: flags.FlagValues) -> None:
    flags.DEFINE_string("fit", None, "DIR: the fit folder that an edit left", flag_values=values)
    define_rendering(values)
    flags.DEFINE_string(
        "image",
        None,
        "FILE: the whole picture, to write each result pasted back into it",
        flag_values=values,
    )


def main(values: flags.FlagValues) -> None:
    from ml_collections import ConfigDict

    from imagic_jax.jobs import edit as job
    from imagic_jax.jobs import fits, models
    from imagic_jax.runtime.compilation import use_cache
    from imagic_jax.runtime.interrupt import stop_flag
    from imagic_jax.runtime.paths import to_path
    from imagic_jax.runtime.progress import Reporter

    if values.fit is None:
        raise UserError("--fit is missing: name the fit folder that an edit left, e.g. OUT/fit")
    folder = to_path(str(values.fit))
    about = fits.read_about(folder)
    config = ConfigDict(about["config"])
    apply_rendering(values, config)
    amounts = method_flags.strengths(values, about["method"])
    use_cache()
    opened, notes = models.open_preset(config, about["size"], about["random_weights"])
    work = method_flags.work_again(about, config, opened.cascade, amounts)
    request = job.AgainRequest(
        fit=folder,
        about=about,
        work=work,
        out=to_path(values.out) if values.out else folder.parent / "rendered",
        negative=values.negative,
        image=to_path(values.image) if values.image else None,
        overwrite=values.overwrite,
        choose_eta=values.eta == AUTO,
        metric_weights=Path(values.metric_weights) if values.metric_weights else None,
        notes=tuple(notes),
    )
    with stop_flag() as stop, Reporter(values.quiet) as reporter:
        result = job.render_again(request, opened, reporter, stop)
    print_result(result, request.out)


COMMAND = Command(
    name="render",
    summary="draw a fitted picture again, at other amounts, seeds or guidance",
    usage=(
        "Reads the fit that `imagic edit` left, of any method, and draws it again; nothing is"
        " optimised or inverted."
    ),
    define=define,
    main=main,
    examples=(
        "imagic render --fit=imagic_out/bird/fit --eta=0.5,0.6,0.7 --seeds=0,1,2",
        "imagic render --fit=imagic_out/bird-sdedit/fit --strength=0.3,0.5",
    ),
)
