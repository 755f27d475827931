"""Is one model better than another? The difference of their BrierLM on the same texts, with a paired interval.

    python -m benchmarks.paired story-k4-wide story-ar [--texts 1000] [--seed 10000000] [--samples 2] [--json]

Held-out stories, by default those of ``calm evaluate storyland:10000000:1000``.
"""

import argparse
import json
from dataclasses import asdict

import calm
from calm.storyland import HELD_OUT, corpus


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("rival")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=HELD_OUT, help="of the first text")
    parser.add_argument("--samples", type=int, default=2, help="draws at each place")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    texts = list(corpus(arguments.texts, arguments.seed))
    names = arguments.model, arguments.rival
    one, other = (calm.brier_lm(calm.load(name), texts, samples=arguments.samples) for name in names)
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
