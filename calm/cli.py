"""The command line: ``python -m calm COMMAND --help``. Every command prints JSON with ``--json``."""

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import asdict, is_dataclass
from pathlib import Path

import numpy as np

from .errors import CalmError


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value)


def _print_json(value) -> None:
    print(json.dumps(value, default=_plain, ensure_ascii=False))


def _wrote(arguments, key: str, path: object) -> None:
    """The one line of a command whose result is a file or folder."""
    if arguments.json:
        _print_json({key: str(path)})
    else:
        print(f"wrote {path}")


def _text(arguments) -> str:
    if arguments.file:
        path = Path(arguments.file)
        if not path.is_file():
            raise CalmError(f"There is no file {arguments.file!r}.")
        return path.read_text(encoding="utf-8")
    return arguments.text


def generate(arguments) -> None:
    """Continues a prompt."""
    from . import generate, load
    from .engine.warmup import on_compile

    def tell() -> None:
        print("Compiling for this machine, once, which takes up to a minute …", file=sys.stderr)

    lm = load(arguments.model, device=arguments.device)
    steps = generate(
        lm,
        arguments.prompt,
        temperature=arguments.temperature,
        max_new_tokens=arguments.max_new_tokens,
        pool_size=arguments.pool_size,
        sampler=arguments.sampler,
        seed=arguments.seed,
    )
    with on_compile(lm, tell):
        if arguments.json:
            found = list(steps)
            _print_json({"text": arguments.prompt + "".join(step.text for step in found), "steps": found})
            return
        print(arguments.prompt, end="", flush=True)
        for step in steps:
            print(step.text, end="", flush=True)
        print()


def reconstruct(arguments) -> None:
    """Encodes and decodes a text, chunk by chunk."""
    from . import load, reconstruct

    found = reconstruct(
        load(arguments.model, device=arguments.device), _text(arguments), arguments.noise, arguments.seed
    )
    if arguments.json:
        _print_json(found)
        return
    for chunk in found.chunks:
        print(f"{'  ' if chunk.exact else '! '}{chunk.text!r:40} {chunk.decoded_text!r}")
    print(f"tokens {found.token_accuracy:.4%}, chunks {found.chunk_accuracy:.4%}, {found.tokens} tokens")


def evaluate(arguments) -> None:
    """Measures a model on texts: reconstruction, BrierLM, and (with --storyland) its stories."""
    from . import load
    from .evaluation.reports import evaluate

    found = evaluate(
        load(arguments.model, device=arguments.device),
        arguments.texts,
        limit=arguments.limit,
        noises=arguments.noise,
        samples=arguments.samples,
        stories=arguments.storyland,
        temperatures=arguments.temperature,
        seed=arguments.seed,
    )
    # An absolute path says something of this machine, its end says what was measured.
    told = (Path(arg).name if Path(arg).is_absolute() else arg for arg in arguments.given)
    found = {"command": f"python -m calm {shlex.join(told)}", **found}
    if arguments.out:
        Path(arguments.out).write_text(json.dumps(found, indent=2) + "\n")
    if arguments.json:
        _print_json(found)
        return
    for name, value in found.items():
        print(f"{name}: {value}")


def samples(arguments) -> None:
    """Writes a page of stories that models tell, none chosen."""
    from . import load
    from .evaluation.reports import samples_page

    models = [load(name, device=arguments.device) for name in arguments.models]
    path = Path(arguments.out)
    path.write_text(samples_page(models, arguments.temperature, arguments.count), encoding="utf-8")
    _wrote(arguments, "samples", path)


def build_map(arguments) -> None:
    """Fits the UMAP map of a model's chunk vectors and writes it to assets/."""
    from . import load
    from .vector_map import build

    path = build(load(arguments.model, device=arguments.device), arguments.texts, arguments.points, arguments.out)
    _wrote(arguments, "map", path)


def train(arguments) -> None:
    """Trains a tokenizer, an autoencoder, a next-vector model or a token-by-token baseline by a recipe."""
    from .training import recipe, tasks

    settings = recipe.read(arguments.recipe, arguments.corpus, arguments.set)
    if settings.get("task", arguments.task) != arguments.task:
        raise CalmError(f"The recipe {arguments.recipe!r} is for {settings['task']!r}, not {arguments.task!r}.")
    _wrote(arguments, "out", tasks.train(arguments.task, settings))


def export(arguments) -> None:
    """Copies a model to a folder in bfloat16, in shards below 9 MB, with the record of its training run; of several
    models of one shape, the mean of their weights."""
    from . import load
    from .hub.records import find_record
    from .hub.saving import average, replace_autoencoder, save

    lm = average([load(name, device="cpu") for name in arguments.models])
    if arguments.autoencoder:
        replace_autoencoder(lm, arguments.autoencoder)
    save(lm, arguments.out, shared_autoencoder=arguments.shared_autoencoder)
    runs = [find_record(name) for name in arguments.models]
    if found := runs[0]:
        if len(runs) > 1:
            found["averaged"] = runs[1:]
        if arguments.autoencoder:
            found["autoencoder"] = find_record(arguments.autoencoder)
        (Path(arguments.out) / "training.json").write_text(json.dumps(found, indent=2) + "\n")
    _wrote(arguments, "out", arguments.out)


def card(arguments) -> None:
    """Writes the card (README.md) of a model folder from its training.json and evaluation.json."""
    from .hub.cards import write

    _wrote(arguments, "card", write(arguments.folder))


def push(arguments) -> None:
    """Uploads a model folder with its card to the Hub; without --yes it only says what it would upload."""
    from .hub.uploads import push

    found = push(arguments.folder, arguments.repository, dry=not arguments.yes)
    if arguments.json:
        _print_json(found)
        return
    for name, size in found["files"].items():
        print(f"{size:12,} {name}")
    print(found["url"] if arguments.yes else f"nothing was uploaded; add --yes to upload to {arguments.repository}")


def stories(arguments) -> None:
    """Tells stories of Storyland."""
    from . import storyland

    told = list(storyland.corpus(arguments.count, arguments.seed))
    if arguments.json:
        _print_json(told)
    else:
        print("\n\n".join(told))


def bench(arguments) -> None:
    """Measures tokens per second beside transformers' generate, the published sampler and the machine's floor."""
    from benchmarks.generation import generation

    found = generation(arguments.model, arguments.tokens, arguments.rounds, arguments.threads)
    if arguments.json:
        _print_json(found)
        return
    print(f"{found['model']} on {found['device']}, {found['threads']} threads, medians of {found['rounds']} rounds")
    for name, rate in found["tokens_per_second"].items():
        draws = f"   {found['draws'][name]:5.1f} draws a step" if name in found["draws"] else ""
        print(f"{name:34} {rate:8.1f} tokens/s   {rate / found['tokens_per_second'][found['peer']]:5.2f}x{draws}")
    print(f"a token of a continuation of 2,000 at T = 1 costs {found['long_cost']:.2f} times as much as one of 200")
    print(
        "floor of one chunk drawn once: " + ", ".join(f"{value:.3g} {name}" for name, value in found["floor"].items())
    )


def parser() -> argparse.ArgumentParser:
    main = argparse.ArgumentParser(prog="python -m calm", description="Continuous Autoregressive Language Models.")
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run: Callable, name: str | None = None) -> argparse.ArgumentParser:
        added = commands.add_parser(name or run.__name__, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        added.add_argument("--json", action="store_true", help="print JSON")
        return added

    def with_model(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("--model", default="story-k4", help="bundled name, folder or Hub id (default: story-k4)")
        added.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")
        return added

    c = with_model(command(generate))
    c.add_argument("prompt", nargs="?", default="", help="text to continue (default: start a new one)")
    c.add_argument("--temperature", type=float, default=0.5, help="any number in (0, 2] (default: 0.5)")
    c.add_argument("--max-new-tokens", type=int, default=256, help="default: 256")
    c.add_argument("--pool-size", type=int, default=200, help="draws a step at most (default: 200)")
    c.add_argument("--sampler", default="auto", help="auto, exact or pooled (default: auto)")
    c.add_argument("--seed", type=int, default=0, help="default: 0")

    c = with_model(command(reconstruct))
    c.add_argument("text", nargs="?", default="", help="text to encode and decode")
    c.add_argument("--file", help="read the text from a file")
    c.add_argument("--noise", type=float, default=0.0, help="standard deviation added to each mean (default: 0)")
    c.add_argument("--seed", type=int, default=0, help="default: 0")

    c = with_model(command(evaluate))
    c.add_argument("texts", nargs="*", help="files or other sources of text (see calm.training.data.read_documents)")
    c.add_argument("--limit", type=int, default=200, help="texts read of each source (default: 200)")
    c.add_argument("--noise", type=float, nargs="*", default=[0.3], help="standard deviations (default: 0.3)")
    c.add_argument("--samples", type=int, default=2, help="draws at each place for BrierLM (default: 2)")
    c.add_argument(
        "--storyland", type=int, default=0, metavar="N", help="also let the model tell N stories and check them"
    )
    c.add_argument("--temperature", type=float, nargs="*", default=[0.35, 0.5, 1.0], help="for --storyland")
    c.add_argument("--seed", type=int, default=0, help="default: 0")
    c.add_argument("--out", help="also write the figures to this JSON file")

    c = command(samples)
    c.add_argument("models", nargs="+", help="bundled names, folders or Hub ids")
    c.add_argument("--temperature", type=float, nargs="+", default=[0.35, 0.5, 1.0], help="default: 0.35 0.5 1")
    c.add_argument("--count", type=int, default=20, help="stories a model and temperature (default: 20)")
    c.add_argument("--out", default="docs/samples.md", help="file to write (default: docs/samples.md)")
    c.add_argument("--device", help="cpu, cuda, ... (default: the GPU where there is one)")

    c = with_model(command(build_map, "map"))
    c.add_argument("--texts", nargs="+", default=["storyland:0:2000"], help="sources (default: storyland:0:2000)")
    c.add_argument("--points", type=int, default=3000, help="chunks on the map (default: 3000)")
    c.add_argument("--out", default="assets", help="folder (default: assets)")

    c = command(train)
    c.add_argument("task", choices=["tokenizer", "autoencoder", "lm", "baseline"])
    c.add_argument("--recipe", required=True, help="bundled recipe or TOML file")
    c.add_argument("--corpus", default="corpus", help="folder that {corpus} stands for in the recipe")
    c.add_argument("--set", action="append", metavar="KEY=VALUE", help="replace a setting (TOML syntax; repeatable)")

    c = command(export)
    c.add_argument("models", nargs="+", help="bundled name, folder or Hub id; several: the mean of their weights")
    c.add_argument("out", help="folder to write")
    c.add_argument("--autoencoder", help="take this one, which was trained on the latent vectors of the model's own")
    c.add_argument(
        "--shared-autoencoder",
        default="",
        metavar="NAME",
        help="a CALM in a folder beside OUT with the same autoencoder, which is then not written again",
    )

    c = command(card)
    c.add_argument("folder", help="a model folder")

    c = command(push)
    c.add_argument("folder", help="a model folder with its card")
    c.add_argument("repository", help="OWNER/NAME on the Hub")
    c.add_argument("--yes", action="store_true", help="upload, instead of saying what would be uploaded")

    c = command(stories)
    c.add_argument("--count", type=int, default=1, help="default: 1")
    c.add_argument("--seed", type=int, default=0, help="of the first story (default: 0)")

    c = command(bench)
    c.add_argument("--model", default="story-k4", help="bundled name, folder or Hub id (default: story-k4)")
    c.add_argument("--tokens", type=int, default=128, help="a run (default: 128)")
    c.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    c.add_argument("--threads", type=int, help="CPU threads (default: torch's choice)")
    return main


def main(argv: list[str] | None = None) -> int:
    given = sys.argv[1:] if argv is None else argv
    arguments = parser().parse_args(given, argparse.Namespace(given=given))
    try:
        arguments.run(arguments)
    except CalmError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
