"""Hypothesis strategies for the arguments of endpoints, page events and server functions.

Most values are good ones of their parameter, so that requests come past the first check. The others are anything
that JSON can carry, and more.
"""

from typing import Any

from hypothesis import strategies as st

from app.registry import BASELINE, DEFAULT
from app.tabs.generate import example

WORDS = st.sampled_from(
    [
        "",
        " ",
        "Once",
        "Once upon a time ",
        "🙂",
        "日本語",
        "<script>alert(1)</script>",
        "\0",
        "\ud800",
        "<|end_of_text|>",
    ]
)
ODD_NUMBERS = st.sampled_from([0, -1, 2**31, 2**63, 2**64, 10**400, 1e-320, 1e308, -0.0, float("nan"), float("inf")])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    ODD_NUMBERS,
    WORDS,
    st.text(max_size=20),
    st.just("x" * 30_000),
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
CHUNK = st.lists(st.integers(0, 900), min_size=4, max_size=4)
VECTOR = st.one_of(st.just([0.0] * 64), st.lists(st.floats(width=32), min_size=64, max_size=64))


def or_text(numbers: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Numbers, some of them as text."""
    return numbers | numbers.map(str)


STEPS = example()["steps"][:3]
"""Steps of a real run."""
CANDIDATES = {key: STEPS[-1][key] for key in ("candidates", "other_counts")}
OPTIONS = {"temperature": 0.5, "max_new_tokens": 8, "pool_size": 8, "sampler": "auto", "seed": 0, "alignment": None}
BRANCH: dict[str, st.SearchStrategy[Any]] = {
    "model": st.just(DEFAULT),
    "prompt": WORDS,
    "run_id": st.just("example"),
    "origin": st.just({"model": DEFAULT, "prompt": "Once", "options": OPTIONS, "branches": []}),
    "steps": st.just(STEPS),
    "vectors": st.just([[0.0] * 64] * 3),
    "pool": st.just(CANDIDATES),
    "choice": st.integers(-1, 3),
}
RUN = {"run_id": "a", "prompt": "Once", "chunks": [[1, 2, 3, 4]], "vectors": [[0.0] * 64]}

GOOD: dict[str, st.SearchStrategy[Any]] = {
    "model": st.sampled_from([DEFAULT, DEFAULT, DEFAULT, BASELINE]),
    "name": st.sampled_from([DEFAULT, BASELINE]),
    "models": st.lists(st.sampled_from([DEFAULT, BASELINE]), max_size=2),
    "prompt": WORDS,
    "text": WORDS | st.just("Mia lost her kite near the old mill. She looked for it.\n\nA text."),
    "temperature": or_text(st.floats(0.01, 2)),
    "max_new_tokens": or_text(st.integers(1, 12)),
    "seed": or_text(st.integers(0, 2**63 - 1)),
    "sampler": st.sampled_from(["auto", "exact", "pooled"]),
    "pool_size": or_text(st.integers(1, 40)),
    "samples": or_text(st.integers(1, 2)),
    "noise": or_text(st.floats(0, 3)),
    "example": st.integers(-1, 8),
    "query": WORDS | st.just("her kite"),
    "count": or_text(st.integers(1, 60)),
    "request": st.fixed_dictionaries({"model": st.sampled_from([DEFAULT, BASELINE]), "own": st.just([RUN])}),
    "own": st.just([RUN]),
    "neighbours": or_text(st.integers(2, 100)),
    "min_dist": or_text(st.floats(0, 1)),
    "metric": st.sampled_from(["euclidean", "cosine"]),
    "dimensions": or_text(st.sampled_from([2, 3])),
    "branch": st.fixed_dictionaries(BRANCH),
    "suggestion": st.fixed_dictionaries({"prompt": WORDS}),
    "choice": st.fixed_dictionaries({"model": st.just(DEFAULT)}),
    "prefix_chunks": st.lists(CHUNK, max_size=3),
    "chosen": CHUNK,
    "chunks": st.lists(CHUNK, min_size=1, max_size=3),
    "index": st.none() | st.integers(0, 2000),
    "mean": VECTOR,
    "target": st.none() | VECTOR,
    "direction": st.none() | st.integers(0, 7),
}
"""Good values by the name of the parameter."""


@st.composite
def value(draw: st.DrawFn, name: str) -> Any:
    """A value of a parameter: good, odd, or good with one odd part."""
    kind = draw(st.integers(0, 7))
    if kind == 0:
        return draw(ANYTHING)
    good = draw(GOOD.get(name, ANYTHING))
    if kind == 1 and isinstance(good, dict) and good:
        return {**good, draw(st.sampled_from(sorted(good))): draw(ANYTHING)}
    if kind == 1 and isinstance(good, list) and good:
        return [*good[:-1], draw(ANYTHING)]
    return good


@st.composite
def message(draw: st.DrawFn, names: list[str]) -> Any:
    """The JSON object of a server function; sometimes without a key, sometimes anything."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANYTHING)
    kept = [name for name in names if draw(st.integers(0, 11))]
    return {name: draw(value(name)) for name in kept}
