"""Named ranges of seeds, so that training, evaluation, benchmarks and the page never share a story."""

from collections.abc import Iterator

from ..errors import CalmError
from .generate import story

SPLITS = {
    "train": range(0, 10_000_000),
    "validation": range(10_000_000, 10_500_000),
    "precision_benchmark": range(10_500_000, 11_000_000),
    "evaluation_prompts": range(11_000_000, 12_000_000),
    "vector_map": range(12_000_000, 13_000_000),
    "generation_benchmark": range(13_000_000, 14_000_000),
    "cost_benchmark": range(14_000_000, 15_000_000),
    "page_examples": range(15_000_000, 16_000_000),
    "tests": range(16_000_000, 20_000_000),
}
"""Seeds of each split. Every split but ``train`` is held out: its seeds are 10,000,000 and more."""


def source(split: str, count: int) -> str:
    """The first ``count`` stories of a split as a source of ``calm.data.documents``."""
    return f"storyland:{SPLITS[split].start}:{count}"


def stories(split: str, count: int, skip: int = 0) -> Iterator[str]:
    """``count`` stories of a split, in the order of their seeds, after the first ``skip``.

    Raises CalmError for an unknown split and for more stories than the split has.
    """
    if split not in SPLITS:
        raise CalmError(f"There is no split {split!r} of Storyland; the splits are {', '.join(SPLITS)}.")
    seeds = SPLITS[split]
    if count < 0 or skip < 0 or skip + count > len(seeds):
        raise CalmError(
            f"The split {split!r} has {len(seeds):,} stories, too few for {skip:,} skipped and {count:,} read."
        )
    return map(story, seeds[skip : skip + count])
