"""The difference of two models' BrierLM on the same texts, with a paired bootstrap interval.

    python -m benchmarks.paired story-k4 story-ar [--texts 1000] [--seed 10000000] [--samples 2] [--exact] [--json]

The texts are held-out stories, by default those of ``calm evaluate storyland:10000000:1000``. With ``--exact`` the
match of a sample with the text is replaced by its exact probability in the language (``benchmarks.language``): the same
mean with less variance, at a second per text.
"""

import argparse
import json
from dataclasses import asdict

import calm
from calm.hub.loading import load_tokenizer
from calm.storyland import SPLITS, corpus
from calm.storyland.tokens import TokenLanguage

from .language import TOKENIZER, expectation, read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("rival")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SPLITS["validation"].start, help="of the first text")
    parser.add_argument("--samples", type=int, default=2, help="samples per position")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    texts = list(corpus(arguments.texts, arguments.seed))
    names = arguments.model, arguments.rival
    language = TokenLanguage(load_tokenizer(TOKENIZER)) if arguments.exact else None
    expected = expectation({text: read(language, text)[0] for text in texts}) if language else None
    one, other = (calm.brier_lm(calm.load(n), texts, samples=arguments.samples, expected_match=expected) for n in names)
    result = calm.brier_difference(one, other)
    if arguments.json:
        scores = {arguments.model: one.figures(), arguments.rival: other.figures()}
        print(json.dumps({**scores, **asdict(result)}))
        return
    for name, score in zip(names, (one, other)):
        print(f"{name:16} BrierLM {score.score:.2f}")
    print(f"difference {result.difference:+.2f}, 95 % interval {result.low:+.2f} to {result.high:+.2f}")


if __name__ == "__main__":
    main()
