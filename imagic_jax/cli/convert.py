"""`imagic convert`: a saved fit as a folder for PyTorch diffusers."""

from pathlib import Path

from absl import flags

from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError


def define(values: flags.FlagValues) -> None:
    text, switch = flags.DEFINE_string, flags.DEFINE_boolean
    text("fit", None, "DIR: the fit folder that an edit left", flag_values=values)
    text("to", None, "DIR: the folder to write", flag_values=values)
    text(
        "dtype",
        "float32",
        "NAME: what the tuned weights are stored as: float32, float16 or bfloat16",
        flag_values=values,
    )
    switch("merge", False, "write a whole model where LoRA was tuned, too", flag_values=values)
    switch("overwrite", False, "replace an earlier conversion in --to", flag_values=values)


def main(values: flags.FlagValues) -> None:
    from ml_collections import ConfigDict

    from imagic_jax.jobs import convert as job
    from imagic_jax.jobs import fits, models, settings

    if values.fit is None:
        raise UserError("--fit is missing: name the fit folder that an edit left, e.g. OUT/fit")
    if not values.to:
        raise UserError("--to is missing: name the folder to write")
    settings.choice(values.dtype, "--dtype", tuple(models.DTYPES))
    folder = Path(str(values.fit))
    about = fits.read_about(folder)
    job.refuse_unfit(about)
    opened, _ = models.open_preset(ConfigDict(about["config"]), about["size"])
    request = job.ConvertRequest(
        fit=folder,
        about=about,
        to=Path(values.to),
        dtype=values.dtype,
        merge=values.merge,
        overwrite=values.overwrite,
    )
    lines = job.convert(request, opened)
    print(f"wrote {request.to}:")
    for line in lines:
        print("  " + line.replace("`", ""))


COMMAND = Command(
    name="convert",
    summary="turn a fitted picture into a folder for PyTorch diffusers",
    usage=(
        "Writes what `imagic edit` learnt as a folder that PyTorch diffusers opens: the model with"
        " its tuned UNet (for a cascade one folder per stage), or the LoRA under diffusers' names,"
        " and the embeddings, with code that draws in its README.md. The whole model can be edited"
        " with again: `imagic edit --model=DIR`."
    ),
    define=define,
    main=main,
    examples=("imagic convert --fit=imagic_out/bird/fit --to=bird_model",),
)
