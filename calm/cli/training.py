"""Commands that fit models and maps to texts."""

from argparse import ArgumentParser, Namespace

from .. import storyland
from ..errors import CalmError
from .options import Command, add_model, print_path


def train(arguments: Namespace) -> None:
    """Train a tokenizer, an autoencoder, a next-vector model or a token-by-token baseline with a recipe."""
    from ..training import recipe, tasks

    settings = recipe.read(arguments.recipe, arguments.corpus, arguments.set)
    if settings.get("task", arguments.task) != arguments.task:
        raise CalmError(f"The recipe {arguments.recipe!r} is for {settings['task']!r}, not {arguments.task!r}.")
    try:
        out = tasks.train(arguments.task, settings)
    except KeyboardInterrupt as interruption:
        raise type(interruption)("the same command continues the run") from interruption
    print_path(arguments, "out", out)


def train_options(parser: ArgumentParser) -> None:
    parser.add_argument("task", choices=["tokenizer", "autoencoder", "lm", "baseline"])
    parser.add_argument("--recipe", required=True, help="name of a bundled recipe, or a TOML file")
    parser.add_argument(
        "--corpus", default="corpus", help="folder that replaces {corpus} in the recipe (default: corpus)"
    )
    parser.add_argument(
        "--set", action="append", metavar="KEY=VALUE", help="change a setting (TOML syntax; repeatable)"
    )


def build_map(arguments: Namespace) -> None:
    """Fit the UMAP map of a model's chunk vectors, and write it with its regions and the usual prediction error."""
    from .. import load
    from ..hub.folders import bundled
    from ..vector_map import build, map_path, stored_map_path

    lm = load(arguments.model, device=arguments.device)
    out = arguments.out or ("assets" if arguments.model in bundled() else None)
    path = map_path(lm.name, out) if out else stored_map_path(lm)
    build(lm, arguments.texts, arguments.points, path, arguments.held_out)
    print_path(arguments, "map", path)


def map_options(parser: ArgumentParser) -> None:
    held_out = storyland.source("vector_map", 40)
    parser.add_argument(
        "--texts", nargs="+", default=["storyland:0:2000"], help="sources of text (default: storyland:0:2000)"
    )
    parser.add_argument(
        "--held-out",
        nargs="+",
        default=[held_out],
        metavar="SOURCE",
        help=f"texts on which the usual prediction error is measured (default: {held_out})",
    )
    parser.add_argument("--points", type=int, default=3000, help="number of chunks on the map (default: 3000)")
    parser.add_argument(
        "--out",
        metavar="FOLDER",
        help="default: assets for a bundled model; for any other one, the user's maps, where the page finds it",
    )
    add_model(parser)


COMMANDS: dict[str, Command] = {"train": (train, train_options), "map": (build_map, map_options)}
