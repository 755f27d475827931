"""Commands that measure models."""

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import CalmError
from ..files import write_json, write_text
from .options import COMMAND_LINE, MODEL, Command, add_device, add_model, add_seed, print_json, print_path

OWN_LIMIT = 200
"""Texts of a source that our own protocol reads by default."""


def evaluate(arguments: Namespace) -> None:
    """Measure a model: reconstruction and BrierLM on texts, and the quality of the stories that it generates."""
    from .. import load
    from ..evaluation.official import evaluate_official
    from ..evaluation.reports import evaluate

    lm = load(arguments.model, device=arguments.device, autoencoder=arguments.autoencoder)
    if arguments.protocol == "official":
        figures = evaluate_official(
            lm, arguments.texts, arguments.block_size, arguments.limit, arguments.samples, arguments.seed
        )
    else:
        figures = evaluate(
            lm,
            arguments.texts,
            limit=OWN_LIMIT if arguments.limit is None else arguments.limit,
            noises=arguments.noise,
            samples=arguments.samples,
            stories=arguments.storyland,
            temperatures=arguments.temperature,
            seed=arguments.seed,
            brier_temperatures=arguments.brier_temperature,
            row_tokens=arguments.row_tokens,
        )
    # The figures may be published, so they keep the file name of an absolute path and not its folders.
    given = (Path(word).name if Path(word).is_absolute() else word for word in getattr(arguments, COMMAND_LINE))
    figures = {"command": f"python -m calm {shlex.join(given)}", **figures}
    try:
        if arguments.out:
            write_json(arguments.out, figures, indent=2)
    finally:  # a file that cannot be written does not cost the figures
        if arguments.json:
            print_json(figures)
        else:
            print("\n".join(_official_lines(figures) if "protocol" in figures else _lines(figures)))


def _official_lines(figures: dict[str, Any]) -> Iterator[str]:
    """The figures of the official protocol as text."""
    yield f"{figures['model']}: {figures['parameters']:,} parameters, official protocol"
    for source, texts in figures["texts"].items():
        loss = {name: value for name, value in texts.items() if name.endswith("_loss") or name == "perplexity"}
        yield (
            f"{source}, {texts['blocks']} blocks of {figures['block_size']:,} tokens: {_score(texts['brier_lm'], 2)}, "
            + ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in loss.items())
            + f", {texts['unused_tokens']:,} tokens at the end are not in a block"
        )


def _score(brier_lm: dict[str, Any], digits: int) -> str:
    """The score with its interval. The published scores have two decimal places."""
    score, low, high = (f"{brier_lm[name]:.{digits}f}" for name in ("score", "low", "high"))
    return f"BrierLM {score} ({low} to {high})"


def _lines(figures: dict[str, Any]) -> Iterator[str]:
    """The figures as text, one line for each source of texts and each temperature."""
    flops = figures["flops_per_token"]
    yield f"{figures['model']}: {figures['parameters']:,} parameters"
    yield f"FLOPs per token: {flops['generation'] / 1e6:.1f} M to generate, {flops['training'] / 1e6:.1f} M to train"
    for source, texts in figures["texts"].items():
        reconstruction = texts.get("reconstruction", {"token_accuracy": {}})
        accuracy = reconstruction["token_accuracy"]
        restored = "".join(f", {100 * share:.3f} % of tokens restored at noise {n}" for n, share in accuracy.items())
        if accuracy:
            restored += f", {reconstruction['bits_per_dimension']:.2f} bits per latent dimension"
        yield f"{source}, {texts['count']} texts: {_score(texts['brier_lm'], 1)}{restored}"
        for temperature, brier_lm in texts.get("brier_lm_at", {}).items():
            yield f"{source} at T = {temperature}: {_score(brier_lm, 1)}"
        for part in texts.get("by_position", []):
            yield f"{source}, tokens {part['tokens'][0]:,} to {part['tokens'][1]:,} of a row: {_score(part, 1)}"
    for stories in figures["stories"]:
        yield (
            f"{stories['stories']} stories at T = {stories['temperature']:g}: "
            f"{stories['well_formed']:.1%} of sentences well-formed, {stories['consistent']:.1%} consistent, "
            f"{stories['prompt_followed']:.1%} of prompts followed; {_variety(stories['unprompted'])}"
        )


def _variety(unprompted: dict[str, Any]) -> str:
    return (
        f"without a prompt {unprompted['plots']} plots and {unprompted['heroes']} heroes in {unprompted['stories']} "
        f"stories, the commonest plot {unprompted['commonest_plot']:.1%}"
    )


def evaluate_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "texts", nargs="*", help="files, folders, hub:OWNER/NAME, storyland:SEED:COUNT and other sources of text"
    )
    parser.add_argument("--limit", type=int, help=f"texts per source (default: {OWN_LIMIT}; official: all)")
    parser.add_argument(
        "--protocol",
        choices=("own", "official"),
        default="own",
        help="own: each text by itself; official: texts packed into blocks, as published (default: own)",
    )
    parser.add_argument(
        "--block-size", type=int, default=8192, help="tokens of a block of the official protocol (default: 8192)"
    )
    parser.add_argument("--autoencoder", metavar="MODEL", help="replace the model's autoencoder")
    parser.add_argument(
        "--noise",
        type=float,
        nargs="*",
        default=[0.3],
        help="standard deviations for the reconstruction; own protocol only (default: 0.3)",
    )
    parser.add_argument("--samples", type=int, default=2, help="samples per position for BrierLM (default: 2)")
    parser.add_argument(
        "--brier-temperature",
        type=float,
        nargs="+",
        default=[],
        metavar="T",
        help="also BrierLM at these temperatures; own protocol only",
    )
    parser.add_argument(
        "--row-tokens",
        type=int,
        metavar="N",
        help="also BrierLM by position in rows of N tokens, packed from the texts; own protocol only",
    )
    parser.add_argument(
        "--storyland",
        type=int,
        default=0,
        metavar="N",
        help="also generate and check N stories per temperature; own protocol only",
    )
    parser.add_argument(
        "--temperature", type=float, nargs="*", default=[0.35, 0.5, 1.0], help="for --storyland (default: 0.35 0.5 1)"
    )
    parser.add_argument("--out", metavar="FILE", help="also write the figures to this JSON file")
    add_seed(parser)
    add_model(parser)


def samples(arguments: Namespace) -> None:
    """Write a Markdown page of stories that models generate, without selection."""
    from .. import load
    from ..evaluation.reports import samples_page

    models = [load(name, device=arguments.device) for name in arguments.models]
    page = samples_page(models, arguments.temperature, arguments.count)
    write_text(arguments.out, page)
    print_path(arguments, "samples", arguments.out)


def samples_options(parser: ArgumentParser) -> None:
    parser.add_argument("models", nargs="+", help=f"{MODEL} of each model")
    parser.add_argument("--temperature", type=float, nargs="+", default=[0.35, 0.5, 1.0], help="default: 0.35 0.5 1")
    parser.add_argument("--count", type=int, default=20, help="stories per model and temperature (default: 20)")
    parser.add_argument("--out", default="docs/samples.md", metavar="FILE", help="default: docs/samples.md")
    add_device(parser)


def bench(arguments: Namespace) -> None:
    """Measure tokens per second next to transformers' generate, the published sampler and the limit of the machine."""
    try:
        from benchmarks.generation import measure, report
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "benchmarks":
            raise
        raise CalmError(
            "The benchmarks come with the project's repository; run the command in a clone of it."
        ) from error

    figures = measure(arguments.model, arguments.tokens, arguments.rounds, arguments.threads)
    if arguments.json:
        print_json(figures)
    else:
        print(report(figures))


def bench_options(parser: ArgumentParser) -> None:
    parser.add_argument("--model", default="story-k4", help=f"{MODEL} (default: story-k4)")
    parser.add_argument("--tokens", type=int, default=128, help="tokens per run (default: 128)")
    parser.add_argument("--rounds", type=int, default=5, help="interleaved rounds (default: 5)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's choice)")


COMMANDS: dict[str, Command] = {
    "evaluate": (evaluate, evaluate_options),
    "samples": (samples, samples_options),
    "bench": (bench, bench_options),
}
