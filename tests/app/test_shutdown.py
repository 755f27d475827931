"""Ctrl-C and SIGTERM end running requests in a sentence, and refuse new ones."""

import threading

import pytest

import calm
from app import compute, health, shutdown
from calm.engine import Backend, ComputeThread, create_engine, warmup


class Queue:
    """Gradio's queue while threads serve its events."""

    def __init__(self, threads):
        self.threads = threads

    def __len__(self):
        return 0

    @property
    def active_jobs(self):
        return [[thread] if thread.is_alive() else None for thread in self.threads]


class Page:
    def __init__(self, threads):
        self._queue = Queue(threads)


@pytest.fixture
def closing(monkeypatch):
    """The page may be closed in this test."""
    monkeypatch.setattr(compute, "_closed", [])
    monkeypatch.setattr(shutdown, "FLUSH", 0)
    monkeypatch.setattr(warmup, "_stopping", threading.Event())
    return monkeypatch


def test_running_requests_end_in_a_sentence(closing, tiny):
    lm = tiny(max_position_embeddings=4096)
    first, results = threading.Event(), []

    def visit():
        try:
            for _ in calm.generate(lm, "Once", max_new_tokens=10_000, seed=1):
                first.set()
        except calm.CalmError as error:
            results.append(str(error))

    with ComputeThread() as executor:
        engine = create_engine(lm, executor, Backend.PYTORCH)
        closing.setattr(shutdown, "engines", lambda: [engine])
        threads = [threading.Thread(target=visit) for _ in range(3)]
        for thread in threads:
            thread.start()
        first.wait()
        shutdown.end_requests(Page(threads))
        assert not any(thread.is_alive() for thread in threads)
    assert results == [shutdown.SENTENCE] * 3


def test_a_request_that_does_not_end_is_cut_off(closing, caplog):
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    closing.setattr(shutdown, "LIMIT", 0.1)
    closing.setattr(shutdown, "engines", lambda: [])
    shutdown.end_requests(Page([thread]))
    stop.set()
    thread.join()
    assert "1 requests did not end" in caplog.text


def test_a_page_that_stops_refuses_work_and_says_so(closing):
    compute.close(calm.CalmError(shutdown.SENTENCE))
    with pytest.raises(calm.CalmError, match="being restarted"):
        compute.run(int)
    assert health.health()["status"] == "stopping"
