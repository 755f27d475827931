"""The command line: ``calm COMMAND --help`` or ``python -m calm COMMAND --help``.

Every command prints JSON with ``--json``. Exit codes: 0 for success, 1 for a failure, 2 for a mistake in the request,
130 after Ctrl-C.
"""

import argparse
import os
import sys

from ..errors import CalmError
from . import evaluation, generation, machine, models, training
from .options import COMMAND_LINE, Command

COMMANDS: dict[str, Command] = {
    **generation.COMMANDS,
    **evaluation.COMMANDS,
    **training.COMMANDS,
    **models.COMMANDS,
    **machine.COMMANDS,
}
EXTRAS = {
    "accelerate": "train", "datasets": "train", "tqdm": "train", "zstandard": "train", "umap": "app", "plotly": "app",
}  # fmt: skip
"""Optional package -> the extra of this package that installs it."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands. Its result holds the function of the chosen command as ``run``."""
    main = argparse.ArgumentParser(prog="calm", description="Continuous Autoregressive Language Models.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (run, add_options) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        add_options(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    return main


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code. Errors end in one line on standard error."""
    given = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(given, argparse.Namespace(**{COMMAND_LINE: given}))
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a console may lack characters of a text
    try:
        return arguments.run(arguments) or 0
    except CalmError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # the reader of the output has closed it, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except ModuleNotFoundError as error:
        if extra := EXTRAS.get((error.name or "").partition(".")[0]):
            return _fail(f"{error.name} is not installed; run: pip install 'calm-playground[{extra}]'", 2)
        raise
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)


def _fail(sentence: str, code: int) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return code
