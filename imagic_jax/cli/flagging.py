"""Flags: absl definitions, presets by name, errors in one sentence, help that reads well."""

import dataclasses
import difflib
import re
import shutil
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from imagic_jax.errors import UserError
from imagic_jax.jobs.presets import find_preset, load_config, preset_paths


@dataclasses.dataclass(frozen=True)
class Command:
    """One subcommand of `imagic`."""

    name: str
    summary: str
    usage: str
    define: Callable[[flags.FlagValues], None]
    main: Callable[[flags.FlagValues], int | None]  # an exit code other than 0, if need be
    examples: tuple[str, ...] = ()
    preset: str | None = None  # default of --config; None: the command has no presets
    presets: str = "*.py"  # which files of configs/ are its presets
    methods: bool = False  # its presets' settings hold those of every editing method
    models: bool = False  # --model alone chooses the preset of that model's family


def parse(command: Command, argv: Sequence[str]) -> flags.FlagValues:
    """Parses a command's arguments.

    Raises:
        UserError: unknown or ill-valued flags, stray arguments, unknown presets or config keys.
    """
    values = flags.FlagValues()
    command.define(values)
    argv = [command.name, *argv]
    if command.preset is not None:
        argv = _with_preset(command, argv)
        config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=argv)
        # The methods are imported where their settings are named, and only there.
        if command.methods and any(re.match(r"--?config\.methods\.", a) for a in argv):
            values["config"].parser = _WithMethods("config")
    try:
        rest = values(argv)
        if command.preset is not None:
            _ = values.config
    except flags.Error as error:
        raise UserError(str(error).removeprefix("flag ")) from error
    except (KeyError, AttributeError) as error:
        raise UserError(_unknown_key(argv, values, error)) from error
    except (SyntaxError, ImportError, TypeError, ValueError) as error:
        raise UserError(f"--config: {argv[1]} cannot be read ({error})") from error
    if len(rest) > 1:
        raise UserError(f"{rest[1]!r} is no flag; flags look like --name=value")
    return values


class _WithMethods(ConfigFileFlagParser):
    """Reads a preset, and adds the settings of editing methods that it leaves out."""

    def parse(self, path: str) -> Any:
        from imagic_jax.jobs.methods import with_defaults

        config = super().parse(path)
        if hasattr(config, "unlocked"):
            with_defaults(config)
        return config


def _with_preset(command: Command, argv: list[str]) -> list[str]:
    """argv with `--config=FILE` first, where config_flags wants it."""
    chosen, model, rest = None, None, []
    at = 0
    while at < len(argv):
        arg = argv[at]
        if arg in ("--config", "-config"):
            if at + 1 == len(argv):
                raise UserError("--config needs a preset's name or file")
            chosen, at = argv[at + 1], at + 2
        elif match := re.match(r"--?config=(.*)$", arg):
            chosen, at = match[1], at + 1
        else:
            if match := re.match(r"--?model=(.*)$", arg):
                model = match[1]
            elif arg in ("--model", "-model"):
                model = next(iter(argv[at + 1 :]), None)
            rest.append(arg)
            at += 1
    if chosen is None:
        chosen = preset_for(model) if model and command.models else command.preset
    return [rest[0], f"--config={find_preset(str(chosen), command.presets)}", *rest[1:]]


def preset_for(model: str) -> str:
    """The preset of a model's family; JAX is imported for this alone.

    Raises:
        UserError: there is no such model, or it cannot be read.
    """
    from imagic_jax.jobs import models
    from imagic_jax.models import UnsupportedConfig
    from imagic_jax.weights import WeightsError

    try:
        return models.preset_for(model)
    except (WeightsError, UnsupportedConfig) as error:
        raise UserError(str(error)) from error


def _unknown_key(argv: Sequence[str], values: flags.FlagValues, error: Exception) -> str:
    """Which config override names nothing, and what was probably meant."""
    flag: Any = values["config"]
    keys = _leaves(flag.parser.parse(argv[1].split("=", 1)[1]))
    for arg in argv[2:]:
        if match := re.match(r"--?config\.([^=]+)", arg):
            key = match[1]
            if key not in keys:
                close = difflib.get_close_matches(key, keys, 1, 0.4)
                hint = f"; did you mean config.{close[0]}?" if close else ""
                return f"there is no setting config.{key}{hint}"
    return f"--config: {error}"


def _leaves(config: Any, prefix: str = "") -> list[str]:
    found = []
    for key, value in config.items():
        found.append(prefix + key)
        if hasattr(value, "items"):
            found += _leaves(value, f"{prefix}{key}.")
    return found


def help_text(command: Command) -> str:
    """The help page of one command."""
    values = flags.FlagValues()
    command.define(values)
    width = min(shutil.get_terminal_size((100, 24)).columns, 100)
    lines = [f"imagic {command.name}: {command.summary}", "", *_wrap(command.usage, width), ""]
    if command.examples:
        lines += ["Examples", *(f"  {e}" for e in command.examples), ""]
    lines.append("Flags")
    rows = [(f, values[f]) for f in values]
    if command.preset is not None:
        lines += _flag_lines(
            "--config", f"a preset's name or file (default: {command.preset})", width
        )
        lines += _flag_lines("--config.KEY.KEY", "overrides one setting of the preset", width)
    for name, flag in rows:
        default = "" if flag.default in (None, "", False, []) else f" (default: {flag.default})"
        switch = f"--{name}" if flag.boolean else f"--{name}={flag.help.split(':', 1)[0]}"
        text = flag.help if flag.boolean else flag.help.split(":", 1)[1].strip()
        text = text.split(";\n")[0].removesuffix(";")  # what absl adds to repeated flags
        lines += _flag_lines(switch, text + default, width)
    if command.preset is not None:
        lines += ["", "Presets", *_wrap("  " + ", ".join(preset_paths(command.presets)), width)]
        config = load_config(find_preset(command.preset, command.presets))
        lines += ["", f"Settings of {command.preset}"]
        lines += [f"  config.{k} = {v}" for k, v in _settings(config)]
    return "\n".join(lines)


def _settings(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    rows = []
    for key, value in config.items():
        if hasattr(value, "items"):
            rows += _settings(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, value))
    return rows


def _flag_lines(switch: str, text: str, width: int) -> list[str]:
    column = 26
    body = textwrap.wrap(" ".join(text.split()), width - column) or [""]
    if len(switch) + 2 >= column:
        return [f"  {switch}", *(" " * column + b for b in body)]
    return [f"  {switch:<{column - 2}}{body[0]}", *(" " * column + b for b in body[1:])]


def _wrap(text: str, width: int) -> list[str]:
    return [line for part in text.split("\n") for line in (textwrap.wrap(part, width) or [""])]
