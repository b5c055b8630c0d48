"""The `imagic` program: finds the command, and turns errors into one sentence and exit code 2."""

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from imagic_jax.errors import UserError

#: Commands in the order of the help page: name -> module with a `COMMAND`.
COMMANDS = {
    "edit": "imagic_jax.cli.edit",
    "render": "imagic_jax.cli.render",
    "methods": "imagic_jax.cli.methods",
    "compare": "imagic_jax.cli.compare",
    "convert": "imagic_jax.cli.convert",
    "sample": "imagic_jax.cli.sample",
    "train": "imagic_jax.cli.train",
    "evaluate": "imagic_jax.cli.evaluate",
    "study": "imagic_jax.cli.study",
    "bench": "imagic_jax.cli.bench",
}

_HELP = """imagic: edit a real picture with one sentence (Imagic, CVPR 2023), in JAX.

  imagic edit                                   edits the shipped example, on any laptop
  imagic edit --image=me.png --text="a bird spreading its wings"

Commands
{commands}

`imagic COMMAND --help` tells each command's flags."""


def run() -> None:
    """Entry point of the console command."""
    from imagic_jax.runtime.ahead import compiling

    code = main(sys.argv[1:])
    if compiling():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Runs one command line (without the program's name); returns the exit code."""
    try:
        code = _dispatched(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # whoever read the output has gone, as in `imagic edit --help | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 2


def _dispatched(argv: Sequence[str]) -> int:
    if not argv or argv[0] in ("--help", "-h", "help", "--helpshort", "--helpfull"):
        print(_help())
        return 0
    if argv[0] == "--version":
        from importlib import metadata

        print(f"imagic {metadata.version('imagic-jax')}")
        return 0
    name, rest = argv[0], list(argv[1:])
    try:
        command = _command(name)
        if any(a in ("--help", "-h", "--helpshort", "--helpfull") for a in rest):
            from imagic_jax.cli.flagging import help_text

            print(help_text(command))
            return 0
        return _guarded(command, rest)
    except UserError as error:
        return _fail(name, str(error))


def _guarded(command, rest: list[str]) -> int:
    """Runs a command with the expected failures turned into sentences."""
    from imagic_jax.cli.flagging import parse

    values = parse(command, rest)
    _quiet_libraries()
    from imagic_jax.models import UnsupportedConfig
    from imagic_jax.runtime.interrupt import Interrupted
    from imagic_jax.runtime.loop import NonFiniteLoss
    from imagic_jax.weights import WeightsError
    from imagic_jax.weights.tokenizer import TokenizerError

    try:
        return command.main(values) or 0
    except (UserError, WeightsError, UnsupportedConfig, TokenizerError) as error:
        return _fail(command.name, str(error))
    except NonFiniteLoss as error:
        return _fail(command.name, str(error))
    except Interrupted as error:
        return _fail(command.name, str(error))
    except KeyboardInterrupt:
        return _fail(command.name, "stopped at once; what was saved before is kept")


def _command(name: str):
    import difflib

    if name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise UserError(f"there is no command {name!r}{hint} (known: {', '.join(COMMANDS)})")
    return importlib.import_module(COMMANDS[name]).COMMAND


def _fail(name: str, sentence: str) -> int:
    print(f"imagic {name}: {sentence}", file=sys.stderr)
    return 2


def _help() -> str:
    rows = []
    for name in COMMANDS:
        rows.append(f"  {name:<10}{_command(name).summary}")
    return _HELP.format(commands="\n".join(rows))


def _quiet_libraries() -> None:
    """Keeps chatter of the libraries below out of what people read."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.ERROR)
    for noisy in ("jax", "orbax", "etils"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
