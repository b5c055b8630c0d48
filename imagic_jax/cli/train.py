"""`imagic train`: train a Flatland model from a config."""

from pathlib import Path

from absl import flags

from imagic_jax.cli.flagging import Command


def define(values: flags.FlagValues) -> None:
    text = flags.DEFINE_string
    text(
        "model",
        None,
        "DIR: the model folder to make (default: imagic_models/NAME)",
        flag_values=values,
    )
    text(
        "out",
        None,
        "DIR: checkpoints, log and sample sheets (default: imagic_train/CONFIG)",
        flag_values=values,
    )
    text(
        "start_from",
        None,
        "MODEL: the built-in model or model folder whose stage is trained on, in place of a fresh"
        " one; a new --model folder starts as its copy",
        flag_values=values,
    )
    text(
        "mesh",
        None,
        "AXES: sample:N divides each batch over N devices of this process (default: one device)",
        flag_values=values,
    )
    flags.DEFINE_boolean("quiet", False, "show no progress", flag_values=values)


def main(values: flags.FlagValues) -> None:
    from imagic_jax.runtime.compilation import use_cache
    from imagic_jax.runtime.interrupt import stop_flag
    from imagic_jax.runtime.progress import Reporter
    from imagic_jax.training.run import train

    config = values.config.to_dict()
    if values.start_from:
        config["start_from"] = values.start_from
    model = Path(values.model) if values.model else Path("imagic_models") / config["model"]
    run = Path(values.out) if values.out else Path("imagic_train") / config["name"]
    use_cache()
    with stop_flag() as stop, Reporter(values.quiet, every=30.0) as reporter:
        train(config, model, run, reporter, stop, values.mesh)
    where = f"; look at {run / 'sheets'}" if (run / "sheets").is_dir() else ""
    print(f"the model is in {model}{where}")


COMMAND = Command(
    name="train",
    summary="train a Flatland model",
    usage=(
        "Trains one part of a built-in model on pictures drawn on the fly, and writes it into the"
        " model folder in diffusers' layout. An interrupted run goes on when the same command is"
        " given again. What reads other parts is trained after them: stages after the text encoder,"
        " a latent stage after the CLIP pair and the autoencoder."
    ),
    define=define,
    main=main,
    examples=(
        "imagic train --config=train/flatland_imagen_base",
        "imagic train --config=train/flatland_imagen_sr1 --config.recipe.steps=8000",
        "imagic train --config=train/flatland_sd --start_from=flatland-sd",
    ),
    preset="train/flatland_imagen_base",
    presets="train/*.py",
)
