"""Commands that write and publish model folders."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from ..files import write_json
from .options import MODEL, Command, print_json, print_path


def export(arguments: Namespace) -> None:
    """Write a model to a folder in bfloat16, with the record of its training. Several models are averaged."""
    from .. import load
    from ..hub.official import save_official
    from ..hub.records import find_record
    from ..hub.saving import average, replace_autoencoder, save

    lm = average([load(name, device="cpu") for name in arguments.models])
    if arguments.autoencoder:
        replace_autoencoder(lm, arguments.autoencoder)
    if arguments.official:
        save_official(lm, arguments.out, ae_path=arguments.ae_path)
    else:
        save(lm, arguments.out, shared_autoencoder=arguments.shared_autoencoder)
    record, *others = map(find_record, arguments.models)
    if record:
        if known := list(filter(None, others)):
            record["averaged"] = known
        if arguments.autoencoder:
            record["autoencoder"] = find_record(arguments.autoencoder)
        write_json(Path(arguments.out) / "training.json", record, indent=2)
    print_path(arguments, "out", arguments.out)


def export_options(parser: ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", help=f"{MODEL}; several models of one shape are averaged")
    parser.add_argument("out", help="the folder to write")
    parser.add_argument("--autoencoder", metavar="MODEL", help="an autoencoder of the same vectors, which replaces it")
    parser.add_argument(
        "--shared-autoencoder",
        default="",
        metavar="NAME",
        help="a CALM in a folder beside OUT with the same autoencoder, which is then not written again",
    )
    parser.add_argument(
        "--official", action="store_true", help="write the folders that the official code reads (docs/usage.md)"
    )
    parser.add_argument(
        "--ae-path",
        metavar="PATH",
        help="with --official: the path or Hub id of the autoencoder in config.json (default: OUT/autoencoder)",
    )


def card(arguments: Namespace) -> None:
    """Write the card (README.md) of a model folder from its training.json and evaluation.json."""
    from ..hub.cards import write

    print_path(arguments, "card", write(arguments.folder))


def card_options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", help="a model folder")


def push(arguments: Namespace) -> None:
    """Upload a model folder with its card to the Hugging Face Hub. Without --yes, only list the files."""
    from ..hub.uploads import push

    result = push(arguments.folder, arguments.repository, dry=not arguments.yes)
    if arguments.json:
        print_json(result)
        return
    for name, size in result["files"].items():
        print(f"{size:12,} {name}")
    dry = f"nothing was uploaded; add --yes to upload to {arguments.repository}"
    print(result["url"] if arguments.yes else dry)


def push_options(parser: ArgumentParser) -> None:
    parser.add_argument("folder", help="a model folder with its card")
    parser.add_argument("repository", help="OWNER/NAME on the Hub")
    parser.add_argument("--yes", action="store_true", help="upload the files")


COMMANDS: dict[str, Command] = {
    "export": (export, export_options),
    "card": (card, card_options),
    "push": (push, push_options),
}
