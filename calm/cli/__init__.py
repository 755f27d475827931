"""The command line: ``calm COMMAND --help`` or ``python -m calm COMMAND --help``.

Every command prints JSON with ``--json``. Exit codes: 0 for success, 1 for a failure, 2 for a mistake in the request,
130 after Ctrl-C, 143 after SIGTERM; ``serve`` ends with 0 after both.
"""

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from .. import __version__
from ..errors import CalmError, is_out_of_memory
from . import evaluation, generation, machine, models, search, serving, training
from .options import COMMAND_LINE, Command

COMMANDS: dict[str, Command] = {
    **generation.COMMANDS,
    **evaluation.COMMANDS,
    **search.COMMANDS,
    **training.COMMANDS,
    **models.COMMANDS,
    **machine.COMMANDS,
    **serving.COMMANDS,
}
EXTRAS = {
    "accelerate": "train", "datasets": "train", "scipy": "train", "tqdm": "train", "zstandard": "train",
    "umap": "app", "plotly": "app",
}  # fmt: skip
"""Optional package -> the extra of this package that installs it."""


def parser() -> argparse.ArgumentParser:
    """The parser of all commands. Its result holds the function of the chosen command as ``run``."""
    main = argparse.ArgumentParser(prog="calm", description="Continuous Autoregressive Language Models.")
    main.add_argument("--version", action="version", version=f"calm {__version__}")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (run, add_options) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        command.set_defaults(run=run)
        add_options(command)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
    return main


class Terminated(KeyboardInterrupt):
    """SIGTERM as an exception in the running command, as KeyboardInterrupt is for Ctrl-C."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code. Errors end in one line on standard error."""
    given = sys.argv[1:] if argv is None else argv
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a console may lack characters of a text
    try:
        with _signals_as_exceptions():
            arguments = parser().parse_args(given, argparse.Namespace(**{COMMAND_LINE: given}))
            code = arguments.run(arguments) or 0
            sys.stdout.flush()
        return code
    except CalmError as error:
        return _fail(str(error), 2)
    except BrokenPipeError:  # the reader of the output has closed it, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Terminated as error:
        return _fail(": ".join(["terminated", *error.args]), 143)
    except KeyboardInterrupt as error:
        return _fail(": ".join(["interrupted", *error.args]), 130)
    except ModuleNotFoundError as error:
        if extra := EXTRAS.get((error.name or "").partition(".")[0]):
            return _fail(f"{error.name} is not installed; run: pip install 'calm-playground[{extra}]'", 2)
        return _fail_unexpectedly(error)
    except OSError as error:
        return _fail(f"{error.filename or 'input or output'}: {error.strerror or error}", 1)
    except Exception as error:
        if is_out_of_memory(error):
            return _fail("the memory of this machine is full", 1)
        return _fail_unexpectedly(error)


@contextmanager
def _signals_as_exceptions() -> Iterator[None]:
    """Ctrl-C raises KeyboardInterrupt and SIGTERM ``Terminated``. A second signal ends the process at once."""

    def interrupt(number: int, _: object) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    try:
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # outside the main thread, Python allows no signal handlers
        before = {}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _fail(sentence: str, code: int) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return code


def _fail_unexpectedly(error: Exception) -> int:
    """An error of the program itself. ``CALM_TRACEBACK=1`` in the environment prints where it was raised."""
    if os.environ.get("CALM_TRACEBACK"):
        traceback.print_exception(error)
    reason = next(iter(str(error).splitlines()), "")
    return _fail(f"{type(error).__name__}: {reason} (CALM_TRACEBACK=1 shows where it was raised)", 1)
