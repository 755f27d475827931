"""``/metrics``: figures in the format of Prometheus."""

import gradio as gr
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

import calm
from app import health, metrics, registry
from app.errors import Page, error_sentence
from calm.statistics import FIRST_CHUNK_BOUNDS, Statistics


def figures() -> dict[tuple[str, ...], float]:
    """The value of each sample, by its name and the values of its labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


@pytest.fixture
def change():
    """How much a figure has changed since the test began. Loads that an earlier test has started end before, because
    a loaded model generates a few steps."""
    for load in list(registry._loads.values()):
        load.exception()
    before = figures()
    return lambda *name: figures()[name] - before.get(name, 0.0)


def test_the_route_answers_in_front_of_gradios_routes():
    server = FastAPI(routes=health.routes())
    server.get("/{page}")(lambda page: "Gradio's own route")
    answer = TestClient(server).get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain") and "calm_tokens_total" in answer.text


def test_steps_tokens_draws_and_the_first_chunk_are_counted(tiny, tiny_ar, change):
    steps = list(calm.generate(tiny(), "Once", max_new_tokens=32, seed=1))
    assert change("calm_steps_total") == len(steps) and change("calm_tokens_total") == 4 * len(steps)
    assert change("calm_draws_total") == sum(step.draws for step in steps)
    assert change("calm_first_chunk_seconds_count") == change("calm_first_chunk_seconds_bucket", "+Inf") == 1
    tokens = list(calm.generate(tiny_ar, "Once", max_new_tokens=8, seed=1))
    assert change("calm_steps_total") == len(steps) + len(tokens)
    assert change("calm_first_chunk_seconds_count") == 2


def test_times_fall_into_the_bucket_that_holds_them():
    statistics = Statistics()
    for seconds in (0.0, FIRST_CHUNK_BOUNDS[0], FIRST_CHUNK_BOUNDS[-1], 1000.0):
        statistics.add_first_chunk(seconds)
    counts = statistics.first_chunk_counts
    assert (counts[0], counts[-2], counts[-1], sum(counts)) == (2, 1, 1, 4)


def test_slots_and_queues_are_those_of_the_loaded_models(story, monkeypatch):
    monkeypatch.setattr(registry, "_loads", {})
    assert figures()[("calm_slots",)] == 0
    registry.loading(registry.DEFAULT).result()
    running = calm.generate(registry.loading().result(), "Once upon a time", max_new_tokens=512)
    next(running)  # the text goes on until its caller has too many steps to read
    now = figures()
    assert now[("calm_slots",)] > 0 and now[("calm_active_slots",)] == 1
    assert now[("calm_queued_requests", "engine")] == 0
    running.close()
    assert figures()[("calm_active_slots",)] == 0


def test_failures_are_counted_by_whose_mistake_they_are(change):
    error_sentence(calm.CalmError("Too long."))
    error_sentence(KeyError("x"))
    error_sentence(KeyError("x"))
    assert change("calm_failures_total", "request") == 1 and change("calm_failures_total", "program") == 2


@pytest.mark.anyio
async def test_an_event_of_many_steps_is_one_request(change):
    def once() -> str:
        return "text"

    with Page() as page:
        gr.api(once, api_name="once")
    page.queue()
    for number in range(2):
        await page.process_api(block_fn=page.fns[0], inputs=[], event_id=f"event{number}", iterator=None)
    assert change("calm_requests_total", "once") == 2
    assert change("calm_request_seconds_total", "once") > 0


@pytest.fixture
def anyio_backend():
    return "asyncio"


def test_memory_of_the_process_is_among_the_figures():
    assert figures()[("process_resident_memory_bytes",)] > 10_000_000
