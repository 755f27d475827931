"""Is one model better than another? The difference of their BrierLM on the same texts, with a paired interval.

    python -m benchmarks.paired story-k4-wide story-ar [--texts 1000] [--seed 10000000] [--samples 2] [--exact] [--json]

Held-out stories, by default those of ``calm evaluate storyland:10000000:1000``. With ``--exact`` the draws are held
against what the language may say at each place, not against what a text says (``benchmarks.language``): the same
difference with less chance in it, at a second a text.
"""

import argparse
import json
from dataclasses import asdict

import calm
from calm.storyland import SPLITS, corpus

from .language import Language, expectation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("rival")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=SPLITS["validation"].start, help="of the first text")
    parser.add_argument("--samples", type=int, default=2, help="draws at each place")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    texts = list(corpus(arguments.texts, arguments.seed))
    names = arguments.model, arguments.rival
    language = Language() if arguments.exact else None
    expected = expectation({text: language.read(text)[0] for text in texts}) if language else None
    one, other = (calm.brier_lm(calm.load(n), texts, samples=arguments.samples, expected_match=expected) for n in names)
    found = calm.brier_difference(one, other)
    if arguments.json:
        scores = {arguments.model: one.figures(), arguments.rival: other.figures()}
        print(json.dumps({**scores, **asdict(found)}))
        return
    for name, score in zip(names, (one, other)):
        print(f"{name:16} BrierLM {score.score:.2f}")
    print(f"difference {found.difference:+.2f}, 95 % interval {found.low:+.2f} to {found.high:+.2f}")


if __name__ == "__main__":
    main()
