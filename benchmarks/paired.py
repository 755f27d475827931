"""Is one model better than another? The difference of their BrierLM on the same texts, with a paired interval.

    python -m benchmarks.paired story-k4-wide story-ar [--texts 1000] [--samples 2] [--json]

Held-out stories, those of ``calm evaluate storyland:10000000:1000``. What makes a text hard is so for both models, and
their difference is known better than either score.
"""

import argparse
import json
from collections.abc import Sequence

import numpy as np

import calm
from calm.brier import pooled
from calm.storyland import HELD_OUT, corpus

BOOTSTRAP = 10_000


def by_text(lm: calm.LanguageModel, texts: Sequence[str], samples: int) -> np.ndarray:
    """Sums of Brier-1 to Brier-4 over the places of each text, and how many these are [texts, 5]."""
    rows = []
    for seed, text in enumerate(texts):
        found = calm.brier_lm(lm, [text], seed, samples, bootstrap=0)
        rows.append([*(b / 100 * found.positions for b in found.brier), found.positions])
    return np.array(rows)


def scores(rows: np.ndarray) -> np.ndarray:
    """BrierLM of rows [..., texts, 5] as ``by_text`` makes them [...]."""
    return pooled(rows[..., :4], rows[..., 4])


def difference(rows: np.ndarray, rival: np.ndarray) -> dict[str, float]:
    """Of the same texts; the bootstrap draws texts, each with both models' figures."""
    picks = np.random.default_rng(0).integers(0, len(rows), (BOOTSTRAP, len(rows)))
    resampled = np.array([scores(rows[pick]) - scores(rival[pick]) for pick in picks])
    low, high = np.percentile(resampled, (2.5, 97.5))
    return {"difference": float(scores(rows) - scores(rival)), "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("rival")
    parser.add_argument("--texts", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=2, help="draws at each place")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    texts = list(corpus(arguments.texts, HELD_OUT))
    names = arguments.model, arguments.rival
    rows, rival = (by_text(calm.load(name), texts, arguments.samples) for name in names)
    found = {**dict(zip(names, map(float, (scores(rows), scores(rival))))), **difference(rows, rival)}
    if arguments.json:
        print(json.dumps(found))
        return
    for name in names:
        print(f"{name:16} BrierLM {found[name]:.2f}")
    print(f"difference {found['difference']:+.2f}, 95 % interval {found['low']:+.2f} to {found['high']:+.2f}")


if __name__ == "__main__":
    main()
