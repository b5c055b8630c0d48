"""`imagic methods`: the editing methods there are, and what each needs, costs and can do."""

import json

from absl import flags

from imagic_jax.cli.edit import DEFAULT_PRESET, preset_name
from imagic_jax.cli.flagging import Command
from imagic_jax.errors import UserError


def define(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "method", None, "NAME: tell the settings of this one too", flag_values=values
    )
    flags.DEFINE_boolean("json", False, "print JSON", flag_values=values)


def main(values: flags.FlagValues) -> None:
    from imagic_jax.jobs import method_table, methods, models

    chosen = None if values.method is None else methods.checked_name(values.method)
    config = values.config
    if "embedding" not in config:
        raise UserError(f"--config: {preset_name(values)} is no preset of an edit")
    opened, _ = models.open_preset(config, None, "architecture" in config)
    rows = method_table.rows(config, opened.cascade)
    rows = [r for r in rows if chosen in (None, r.name)]
    if values.json:
        print(json.dumps(method_table.as_json(rows), indent=2))
        return
    print(method_table.text(rows, preset_name(values)))
    if chosen is not None:
        print()
        print(method_table.details(rows[0]))


COMMAND = Command(
    name="methods",
    summary="list the editing methods, what each needs and what it costs",
    usage=(
        "Tells every method's paper, what it needs besides picture and text, its cost in model"
        " evaluations under a preset, and which presets can run it. With --method also its"
        " settings, which are flags of `imagic edit`."
    ),
    define=define,
    main=main,
    examples=("imagic methods", "imagic methods --method=sdedit --config=sd15"),
    preset=DEFAULT_PRESET,
    methods=True,
)
