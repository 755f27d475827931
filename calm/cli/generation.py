"""Commands that generate, encode and decode text."""

import sys
from argparse import ArgumentParser, Namespace

from ..data.text_files import read_text
from ..errors import check_integer, check_seed
from ..hub.folders import bundled
from .options import Command, add_model, add_seed, print_json


def generate(arguments: Namespace) -> None:
    """Continue a prompt. A story prompt of today's Storyland gets the newline that ends it, for a bundled model."""
    from .. import generate, load, storyland
    from ..engine.warmup import on_compile

    def print_note() -> None:
        print("Compiling kernels for this CPU, which takes up to a minute and happens once …", file=sys.stderr)

    lm = load(arguments.model, device=arguments.device)
    prompt = storyland.with_line_end(arguments.prompt) if arguments.model in bundled() else arguments.prompt
    steps = generate(
        lm,
        prompt,
        temperature=arguments.temperature,
        max_new_tokens=arguments.max_new_tokens,
        pool_size=arguments.pool_size,
        sampler=arguments.sampler,
        seed=arguments.seed,
    )
    with on_compile(lm, print_note):
        if arguments.json:
            listed = list(steps)
            print_json({"text": prompt + "".join(step.text for step in listed), "steps": listed})
            return
        print(prompt, end="", flush=True)
        for step in steps:
            print(step.text, end="", flush=True)
        print()


def generate_options(parser: ArgumentParser) -> None:
    parser.add_argument("prompt", nargs="?", default="", help="text to continue (default: none, for a new text)")
    parser.add_argument("--temperature", type=float, default=0.5, help="above 0 and at most 2 (default: 0.5)")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="largest number of new tokens (default: 256)")
    parser.add_argument("--pool-size", type=int, default=200, help="largest number of samples per step (default: 200)")
    parser.add_argument("--sampler", default="auto", help="auto, exact or pooled (default: auto)")
    add_seed(parser)
    add_model(parser)


def reconstruct(arguments: Namespace) -> None:
    """Encode a text to vectors and decode it again, chunk by chunk. A ! marks a chunk that changed."""
    from .. import load, reconstruct

    text = read_text(arguments.file) if arguments.file else arguments.text
    result = reconstruct(load(arguments.model, device=arguments.device), text, arguments.noise, arguments.seed)
    if arguments.json:
        print_json(result)
        return
    for chunk in result.chunks:
        print(f"{'  ' if chunk.exact else '! '}{chunk.label!r:40} {chunk.decoded_label!r}")
    print(
        f"restored {result.token_accuracy:.4%} of {result.tokens} tokens, {result.chunk_accuracy:.4%} of "
        f"{len(result.chunks)} chunks"
    )


def reconstruct_options(parser: ArgumentParser) -> None:
    parser.add_argument("text", nargs="?", default="", help="the text")
    parser.add_argument("--file", help="read the text from this file")
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation added to each mean (default: 0)")
    add_seed(parser, "of the noise")
    add_model(parser)


def stories(arguments: Namespace) -> None:
    """Print stories of Storyland, the language of the bundled models."""
    from .. import storyland

    count, seed = check_integer("count", arguments.count, 1, 1_000_000), check_seed(arguments.seed)
    texts = list(storyland.corpus(count, seed))
    if arguments.json:
        print_json(texts)
    else:
        print("\n\n".join(texts))


def stories_options(parser: ArgumentParser) -> None:
    parser.add_argument("--count", type=int, default=1, help="number of stories (default: 1)")
    add_seed(parser, "of the first story")


COMMANDS: dict[str, Command] = {
    "generate": (generate, generate_options),
    "reconstruct": (reconstruct, reconstruct_options),
    "stories": (stories, stories_options),
}
