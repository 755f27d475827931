"""``/health`` says whether the page can serve requests, and why not."""

from concurrent.futures import Future

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from app import health, registry
from app.leases import NoRoomError
from calm import CalmError


@pytest.fixture
def get(monkeypatch):
    monkeypatch.setattr(registry, "_loads", {})
    server = FastAPI(routes=health.routes())
    server.get("/{page}")(lambda page: "Gradio's own route")
    return lambda: TestClient(server).get("/health")


def _load(story, monkeypatch, fallback: bool) -> None:
    future: Future = Future()
    future.set_result(story)
    registry._loads[registry.DEFAULT] = future
    monkeypatch.setattr(registry, "uses_fallback", lambda lm: fallback)


def test_a_page_without_its_default_model_is_starting(get):
    answer = get()
    assert answer.status_code == 200
    loading = {
        "status": "starting",
        "reasons": ["story-k4 is being loaded."],
        "models": [],
        "memory": {},
        "machine": {},
    }
    assert answer.json() == loading


def test_a_loaded_model_is_ready(get, story, monkeypatch):
    _load(story, monkeypatch, fallback=False)
    answer = get().json()
    assert set(answer.pop("machine")) == {"GPU", "CPU kernels", "Memory"}
    assert answer.pop("memory")["story-k4"] > 2 * story.num_parameters
    assert answer == {"status": "ready", "reasons": [], "models": ["story-k4"]}


def test_a_fallback_engine_is_degraded(get, story, monkeypatch):
    _load(story, monkeypatch, fallback=True)
    answer = get()
    assert (answer.status_code, answer.json()["status"]) == (200, "degraded")
    assert "story-k4" in answer.json()["reasons"][0]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (CalmError("story-k4 could not be loaded: the file is cut"), "story-k4 could not be loaded: the file is cut"),
        (KeyError("x"), "story-k4 could not be loaded because of an error in the program (KeyError)."),
    ],
)
def test_a_model_that_cannot_be_loaded_is_a_failure(get, error, sentence):
    registry._loads[registry.DEFAULT] = Future()
    registry._loads[registry.DEFAULT].set_exception(error)
    answer = get()
    assert (answer.status_code, answer.json()["status"]) == (503, "failed")
    assert answer.json()["reasons"] == [sentence]


def test_a_page_without_room_for_its_default_model_says_so(get):
    registry._loads[registry.DEFAULT] = Future()
    registry._loads[registry.DEFAULT].set_exception(NoRoomError("story-k4 needs 1.00 GB of memory"))
    answer = get()
    assert (answer.status_code, answer.json()["status"]) == (200, "starting")
    assert answer.json()["reasons"] == ["story-k4 needs 1.00 GB of memory"]
