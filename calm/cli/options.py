"""Options, reading of texts and printing of results that several commands share."""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from typing import Any

Command = tuple[Callable[[argparse.Namespace], int | None], Callable[[argparse.ArgumentParser], None]]
"""The function that runs a command and the function that adds its options. The docstring of the first is the help; it
returns the exit code, or None for 0."""

COMMAND_LINE = "command_line"
"""The attribute of the parsed arguments that holds all of them as they were given."""

MODEL = "bundled name, folder or Hub id"


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="cpu, cuda, ... (default: the GPU if there is one)")


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="story-k4", help=f"{MODEL} (default: story-k4)")
    add_device(parser)


def add_seed(parser: argparse.ArgumentParser, of: str = "of the random numbers") -> None:
    parser.add_argument("--seed", type=int, default=0, help=f"seed {of} (default: 0)")


def print_json(value: object) -> None:
    """Prints a value in one line of JSON that the console can show."""
    text = json.dumps(value, default=_to_json, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:  # the console lacks characters, which JSON can escape
        text = json.dumps(value, default=_to_json)
    print(text)


def print_path(arguments: argparse.Namespace, key: str, path: object) -> None:
    """Prints the result of a command that writes a file or a folder."""
    if arguments.json:
        print_json({key: str(path)})
    else:
        print(f"wrote {path}")


def _to_json(value: Any) -> object:
    if hasattr(value, "tolist"):  # a NumPy array or number
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)
