"""Commands that search a corpus by chunk vectors."""

from argparse import ArgumentParser, Namespace
from itertools import chain

from .options import Command, add_model, print_json, print_path


def index(arguments: Namespace) -> None:
    """Encode the chunks of a corpus to a file for the command search."""
    from .. import load
    from ..data.documents import read_documents
    from ..search import build_index

    texts = chain.from_iterable(map(read_documents, arguments.texts))
    build_index(load(arguments.model, device=arguments.device), texts).save(arguments.out)
    print_path(arguments, "index", arguments.out)


def index_options(parser: ArgumentParser) -> None:
    parser.add_argument("texts", nargs="+", help="files, folders and other sources of text")
    parser.add_argument("--out", required=True, metavar="FILE", help="the file to write")
    add_model(parser)


def search(arguments: Namespace) -> None:
    """Print the passages of an indexed corpus whose chunks are nearest to those of a text."""
    from .. import load
    from ..search import read_index, search

    index = read_index(arguments.index)
    passages = search(load(arguments.model, device=arguments.device), index, arguments.query, arguments.count)
    if arguments.json:
        print_json(passages)
        return
    for passage in passages:
        print(f"{passage.distance:8.3f}  document {passage.document}, character {passage.start}: {passage.text!r}")


def search_options(parser: ArgumentParser) -> None:
    parser.add_argument("index", help="a file that calm index wrote")
    parser.add_argument("query", help="the text to search for")
    parser.add_argument("--count", type=int, default=10, help="number of passages (default: 10)")
    add_model(parser)


COMMANDS: dict[str, Command] = {"index": (index, index_options), "search": (search, search_options)}
