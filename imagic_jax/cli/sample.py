"""`imagic sample`: draw pictures from text alone."""

from pathlib import Path

from absl import flags

from imagic_jax.cli.edit import (
    DEFAULT_PRESET,
    apply_sampling,
    define_model,
    define_sampling,
    open_model,
)
from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError


def define(values: flags.FlagValues) -> None:
    text = flags.DEFINE_multi_string
    text("text", [], "TEXT: what to draw; may be given several times", flag_values=values)
    define_model(values)
    define_sampling(values)


def main(values: flags.FlagValues) -> None:
    from imagic_jax.jobs import sample as job
    from imagic_jax.jobs import settings
    from imagic_jax.jobs.request import checked_text
    from imagic_jax.runtime.progress import Reporter

    if not values.text:
        raise UserError('--text is missing: say what to draw, e.g. --text="a red dog in the snow"')
    texts = [checked_text(t) for t in values.text]
    config = values.config
    apply_sampling(values, config)
    out = Path(values.out) if values.out else Path("imagic_out") / "samples"
    loaded = open_model(values, config)[0].load()
    checked = settings.from_config(config, loaded.cascade)
    with Reporter(values.quiet) as reporter:
        files = job.sample(texts, values.negative, loaded, checked, out, reporter)
    print(f"{len(files) - 1} pictures; look at {files[-1]}")


COMMAND = Command(
    name="sample",
    summary="draw pictures from text alone",
    usage="Draws every text with every seed, without a picture to start from.",
    define=define,
    main=main,
    examples=('imagic sample --text="a red dog in the snow" --text="a blue car" --seeds=0,1,2,3',),
    preset=DEFAULT_PRESET,
    models=True,
)
