"""Fuzzed requests to every endpoint, hidden event and server function, while texts are generated beside them.

Each request ends with a result that JSON can carry, or with one sentence. The log stays without tracebacks, and the
texts beside equal their solo runs. ``make fuzz`` sends 10,000 requests; ``make test`` 150, always the same.
"""

import asyncio
import inspect
import json
import logging
import math
import os
import threading
from typing import Any

import gradio as gr
import orjson
import pytest
from fastapi.testclient import TestClient
from gradio.routes import App
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import calm
from app.fresh_samples import draw_cloud, draw_pool
from app.map_queries import find_nearest, place_chunks
from app.map_requests import ChunksArguments, NearestArguments
from app.page import build, launch_options
from app.registry import BASELINE, DEFAULT, loaded
from app.requests import StepArguments, WalkArguments
from app.tabs import vectors
from app.tabs.reconstruct import walk

from .strategies import ANYTHING, message, value

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "150"))
SERVER_FUNCTIONS = {
    draw_pool: StepArguments,
    draw_cloud: StepArguments,
    walk: WalkArguments,
    find_nearest: NearestArguments,
    place_chunks: ChunksArguments,
}
PAGE = build()
EVENTS = [function for function in PAGE.fns.values() if function.fn is not None and function.name != "repeat_status"]


class TracebackCounter(logging.Handler):
    """Remembers the unexpected exceptions that the boundary logs."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.seen: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.seen.append(f"{record.getMessage()} {record.exc_info}")


@pytest.fixture(scope="module", autouse=True)
def texts_beside():
    """Generates the same texts again and again beside the requests; each equals its solo run."""
    runs = [(loaded(DEFAULT).lm, 0.5, 1), (loaded(DEFAULT).lm, 1.3, 2), (loaded(BASELINE).lm, 0.8, 3)]

    def generate(lm: calm.LanguageModel, temperature: float, seed: int) -> list[list[int]]:
        return [step.token_ids for step in calm.generate(lm, "Once upon a time", temperature, 48, 64, seed=seed)]

    alone = [generate(*run) for run in runs]
    done, equal, rounds = threading.Event(), [], []

    def repeat(number: int) -> None:
        while not done.is_set():
            equal.append(generate(*runs[number]) == alone[number])
            rounds.append(number)
            done.wait(0.2)

    threads = [threading.Thread(target=repeat, args=(number,), daemon=True) for number in range(len(runs))]
    for thread in threads:
        thread.start()
    yield
    done.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert equal and all(equal) and set(rounds) == {0, 1, 2}


@pytest.fixture(scope="module", autouse=True)
def quick_fits():
    """A fit of UMAP takes seconds in a process of its own, so its result is replaced; its arguments are checked."""
    with pytest.MonkeyPatch.context() as patch:

        def fit(points, fit_settings):
            fit_settings.check(len(points))
            yield 50
            yield points[:, : fit_settings.dimensions]

        patch.setattr(vectors, "stream_fit", fit)
        yield


@pytest.fixture(scope="module")
def log():
    counter, logger = TracebackCounter(), logging.getLogger("app")
    logger.addHandler(counter)
    yield counter
    logger.removeHandler(counter)


fuzz = settings(
    max_examples=REQUESTS // 3,
    derandomize="FUZZ_REQUESTS" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)


def is_sentence(text: Any) -> bool:
    return isinstance(text, str) and text.endswith(".") and "\n" not in text and "error in the program" not in text


async def call(function: Any, inputs: list[Any], event: Any) -> list[Any]:
    """All outputs of an event, as the queue reads them."""
    outputs, iterator = [], None
    data = gr.EventData(None, event)
    while True:
        answer = await PAGE.process_api(function, inputs, iterator=iterator, event_data=data, request=None)
        outputs.append(answer["data"])
        iterator = answer["iterator"]
        if not answer["is_generating"]:
            return outputs


@st.composite
def requests(draw: st.DrawFn) -> tuple[Any, list[Any], Any]:
    """An event, its inputs and the data of its component's event."""
    function = draw(st.sampled_from(EVENTS))
    names = [name for name in inspect.signature(function.fn).parameters if name != "visitor"]
    count = len(function.inputs)
    inputs = [draw(value(name)) for name in names[:count]]
    inputs += [draw(ANYTHING) for _ in range(count - len(inputs))]
    event = draw(value(names[count])) if len(names) > count else None
    if draw(st.integers(0, 19)) == 0:
        inputs = inputs[:-1]
    return function, inputs, event


def has_no_json(item: Any) -> bool:
    """Whether an item holds a number that JSON lacks."""
    if isinstance(item, dict):
        return any(map(has_no_json, item.values()))
    if isinstance(item, (list, tuple)):
        return any(map(has_no_json, item))
    return isinstance(item, float) and not math.isfinite(item)


@fuzz
@given(request=requests())
def test_every_endpoint_and_hidden_event_ends_in_a_result_or_a_sentence(log, request):
    function, inputs, event = request
    try:
        for output in asyncio.run(call(function, inputs, event)):
            orjson.dumps(output, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_PASSTHROUGH_DATETIME)
            assert not has_no_json(output)
    except gr.Error as error:
        assert is_sentence(error.message), error.message
        orjson.dumps(error.message)
    assert log.seen == []


@fuzz
@given(data=st.data(), function=st.sampled_from(list(SERVER_FUNCTIONS)))
def test_every_server_function_ends_in_a_result_or_a_sentence(log, data, function):
    names = [name for name in SERVER_FUNCTIONS[function].model_fields if name != "visitor"]
    answer = function(data.draw(message(names)))
    orjson.dumps(answer)
    assert not has_no_json(answer)
    if isinstance(answer, dict) and "error" in answer:
        assert is_sentence(answer["error"]), answer
    assert log.seen == []


ROUTES = st.sampled_from(["component_server", "queue/join", "run/generate", "call/generate", "cancel", "reset"])
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "data": ANYTHING | st.lists(ANYTHING, max_size=8),
        "fn_index": st.integers(-2, 90) | ANYTHING,
        "session_hash": st.just("fuzz") | ANYTHING,
        "component_id": st.integers(0, 90) | ANYTHING,
        "fn_name": st.sampled_from(["draw_pool", "walk", "__init__", "_is_server_fn", "value"]) | ANYTHING,
        "trigger_id": st.integers(-1, 90) | ANYTHING,
        "event_data": ANYTHING,
        "event_id": ANYTHING,
    },
)


@pytest.fixture(scope="module")
def client():
    options = {**launch_options()["app_kwargs"]}
    return TestClient(App.create_app(PAGE, app_kwargs=options), raise_server_exceptions=False)


@fuzz
@given(route=ROUTES, body=BODIES)
def test_a_forged_request_to_a_route_is_refused_in_json(client, log, route, body):
    answer = client.post(f"/gradio_api/{route}", content=json.dumps(body), headers={"content-type": "application/json"})
    refusal = answer.json()
    if answer.status_code >= 500:  # of the page, or of Gradio's queue when it is full
        assert is_sentence(refusal.get("error") or refusal["detail"]), (answer.status_code, answer.text[:300])
    assert log.seen == []
