"""Budgets and shares: what one visitor may ask for, checked before the work starts."""

import asyncio
import json

import gradio as gr
import pytest
from fastapi import Request

import calm
from app import limits, shares
from app.map_queries import find_nearest
from app.registry import DEFAULT
from app.requests import EvaluateArguments, GenerateArguments
from app.shares import Share
from app.tabs import generate as generate_tab
from app.tabs import learn, vectors
from app.validation import validated, visitor_of
from calm import CalmError


def test_a_visitor_beyond_the_share_gets_one_sentence_and_the_others_go_on():
    share = Share("requests", 2, 3)
    with share.hold("a"), share.hold("a"):
        with pytest.raises(CalmError, match="You have 2 requests running"), share.hold("a"):
            pass
        with (
            share.hold("b"),
            pytest.raises(CalmError, match="All visitors together have 3 requests running"),
            share.hold("c"),
        ):
            pass
        with share.hold(""), share.hold(""), share.hold(""):  # calls in Python do not count
            pass
    for _ in range(3):
        with share.hold("a"), share.hold("a"):
            pass
    assert not share._running


def test_a_stream_holds_its_share_until_it_is_closed(monkeypatch):
    monkeypatch.setattr(shares, "REQUESTS", Share("requests", 1))

    @validated(GenerateArguments, "prompt")
    def work(arguments):
        yield arguments.prompt
        yield "end"

    one, other = gr.Request(session_hash="a"), gr.Request(session_hash="b")
    first = work("Once", one)
    assert next(first) == "Once"
    with pytest.raises(CalmError, match="You have 1 requests running"):
        next(work("Once", one))
    assert next(work("Once", other)) == "Once"
    first.close()
    assert list(work("Once", one)) == ["Once", "end"]


def test_visitors_behind_one_proxy_have_shares_of_their_own():
    """Gradio gives server functions the web server's request, whose body it has read."""

    async def visitor(session: str | None) -> str:
        body = json.dumps({"session_hash": session} if session else {}).encode()

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        request = Request({"type": "http", "method": "POST", "headers": [], "client": ("10.0.0.1", 80)}, receive)
        await request.json()
        return visitor_of(request)

    assert [asyncio.run(visitor(session)) for session in ("a", "b", None)] == ["a", "b", "10.0.0.1"]


@pytest.mark.parametrize(
    "values",
    [
        {"temperature": 1.5, "max_new_tokens": 512, "pool_size": 10_000},
        {"sampler": "pooled", "max_new_tokens": 512, "pool_size": 1000, "samples": 4},
        {"model": "story-k1", "temperature": 1.2, "max_new_tokens": 512, "pool_size": 1000},
    ],
)
def test_a_run_beyond_its_samples_is_refused_before_it_starts(values):
    with pytest.raises(CalmError, match="A run may draw 400,000 samples in all"):
        GenerateArguments.parse(values)
    assert GenerateArguments.parse({**values, "max_new_tokens": 64, "pool_size": 200})


def test_a_token_by_token_model_and_one_that_is_not_loaded_have_no_budget_of_samples(monkeypatch):
    values = {"temperature": 1.2, "max_new_tokens": 512, "pool_size": 1000}
    assert GenerateArguments.parse({"model": "story-ar", **values})
    monkeypatch.setenv("CALM_MODELS", "someone/calm")
    assert GenerateArguments.parse({"model": "someone/calm", **values})


def test_lookups_have_a_larger_share_than_draws():
    assert shares.LOOKUPS.per_visitor > shares.DRAWS.per_visitor and shares.LOOKUPS.in_all > shares.DRAWS.in_all
    message = {"model": DEFAULT, "chunks": [[1, 2, 3, 4]]}
    with shares.DRAWS.hold("a"), shares.DRAWS.hold("a"):
        assert "error" not in find_nearest(message, gr.Request(session_hash="a"))


def test_a_run_ends_at_its_samples_where_they_are_not_known_before(monkeypatch):
    from app.registry import loaded

    monkeypatch.setattr(limits, "MAX_RUN_DRAWS", 30)
    arguments = GenerateArguments.parse({"prompt": "Once", "temperature": 0.2, "max_new_tokens": 256, "seed": 3})
    seen = []
    with pytest.raises(CalmError, match="A run may draw 30 samples"):
        seen.extend(generate_tab.stream(loaded(), arguments))  # what came before the error is kept
    assert seen[-1][0].payload["steps"]


def test_an_evaluation_beyond_its_budget_is_refused_before_it_starts():
    names = [DEFAULT, "story-ar", "story-k1", "story-k2"]
    with pytest.raises(CalmError, match="Characters times models must be at most 60,000, not 80,000"):
        EvaluateArguments.parse({"text": "x" * 20_000, "models": names})
    assert EvaluateArguments.parse({"text": "x" * 20_000, "models": [*names[:3], names[0]]})


def test_a_fit_ends_after_its_time(monkeypatch):
    monkeypatch.setattr(limits, "MAX_FIT_SECONDS", -1)
    closed = []

    def fit(points, settings):
        try:
            while True:
                yield 0
        finally:
            closed.append(len(points))

    monkeypatch.setattr(vectors, "stream_fit", fit)
    own = [{"run_id": "a", "prompt": "", "chunks": [[1, 2, 3, 4]], "vectors": [[0.0] * 64]}]
    with pytest.raises(CalmError, match="took longer than"):
        list(vectors._fit(DEFAULT, own, 15, 0.1, "euclidean", 2, 0))
    assert closed == [limits.FIT_CHUNKS + 2]  # the predicted vector and the encoded one


def test_the_limits_are_on_the_page_and_in_the_documents():
    from pathlib import Path

    document = (Path(__file__).parents[2] / "docs" / "limits.md").read_text(encoding="utf-8")
    assert [line for line in limits.lines() if f"- {line}\n" not in document] == []
    assert learn.lines is limits.lines


def test_an_evaluation_pauses_between_its_passes(tiny, tiny_ar):
    from calm.evaluation.continuations import Pause

    texts = list(calm.storyland.stories("validation", 2))
    for lm in (tiny(2), tiny_ar):
        items = list(calm.stream_brier_lm(lm, texts, 0, 3, pauses=True))
        results = [item for item in items if not isinstance(item, Pause)]
        assert len(items) - len(results) >= 3 * len(texts)
        assert results == list(calm.stream_brier_lm(lm, texts, 0, 3)) and results[-1] == calm.brier_lm(lm, texts, 0, 3)
