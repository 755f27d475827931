"""Requests to replicas of this process, which end in the middle of a text."""

import asyncio
import threading

import numpy as np
import pytest

import calm
from calm import tracing
from calm.serving import replica as replica_module
from calm.serving.client import DEATHS, PAUSES, Client, NoReplica, Overloaded, ReplicaLost
from calm.serving.replica import Replica

PROMPT = "Once upon a time"
# A step of 1,000 samples takes longer than a message, so that a text has many messages on any machine.
OPTIONS = calm.GenerationOptions(0.5, 96, seed=4, sampler="pooled", pool_size=1000)


class Replicas:
    """Two replicas that take turns. ``losses`` holds for each call after how many messages its replica is lost."""

    def __init__(self, replicas, losses=()):
        self.replicas, self.losses, self.calls = replicas, list(losses), []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def _await(self, awaitable):
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result(60)

    def stream(self, method, *arguments):
        number = len(self.calls)
        self.calls.append(arguments)
        left = self.losses[number] if number < len(self.losses) else None
        if isinstance(left, Exception):
            raise left
        messages = getattr(self.replicas[number % 2], method)(*arguments)
        try:
            while left is None or left > 0:
                left = left and left - 1
                yield self._await(anext(messages))
            raise ReplicaLost
        except StopAsyncIteration:
            pass
        finally:
            self._await(messages.aclose())


@pytest.fixture(scope="module")
def both():
    return [Replica("story-k4", "cpu") for _ in range(2)]


@pytest.fixture
def connect(both, monkeypatch):
    monkeypatch.setattr(replica_module, "MESSAGE_SECONDS", 0)
    monkeypatch.setattr(replica_module, "MESSAGES_PER_SECOND", float("inf"))
    pauses = []

    def connect(*losses):
        client = Client("story-k4", Replicas(both, losses), pauses.append)
        client.pauses = pauses
        return client

    return connect


def test_a_text_whose_replicas_are_lost_equals_the_undisturbed_one(connect, story):
    alone = list(calm.stream(story, PROMPT, OPTIONS))
    client = connect(1, 1, 0, 2)
    events = client.stream(PROMPT, OPTIONS, request_id="r", encodings=True)
    steps = [event for event in events if isinstance(event, calm.Step)]
    assert client.losses == 4 and len(client.pauses) == 4 and client.pauses[2] == PAUSES[1]
    assert [step.index for step in steps] == list(range(len(alone)))
    for step, other in zip(steps, alone, strict=True):
        assert (step.token_ids, step.text, step.candidates) == (other.token_ids, other.text, other.candidates)
        assert np.array_equal(step.vector, other.vector)
        assert step.encoded == pytest.approx(calm.encode(story, [step.token_ids]).mean[0], abs=1e-5)
    handed_over = [len(arguments[3]) for arguments in client.replicas.calls]
    assert handed_over[0] == 0 and handed_over == sorted(handed_over) and handed_over[-1] > 1


def test_results_in_parts_are_complete_after_a_loss(connect, story):
    client, noises = connect(2), [0.0, 1.0, 2.0]
    assert list(client.iterate("robustness", "A shy fox.", noises, 3)) == list(
        calm.robustness(story, "A shy fox.", noises, seed=3)
    )
    assert client.losses == 1 and len(client.replicas.calls) == 2
    texts = ["A shy fox named Mia lived in a den."]
    *_, score = connect().iterate("brier_lm", texts, 3, 2, 0.5)
    assert score == calm.brier_lm(story, texts, 3, 2, temperature=0.5)


def test_a_description_has_no_weights_and_all_facts(connect, story):
    description = connect().describe()
    lm = description.lm
    assert lm.device.type == "meta" and description.device == "cpu"
    assert (lm.num_parameters, lm.chunk_size, lm.dtype) == (story.num_parameters, story.chunk_size, story.dtype)
    assert lm.tokenize(PROMPT) == story.tokenize(PROMPT)


def test_a_full_queue_is_one_sentence_and_a_running_text_waits_for_it(connect, story):
    with pytest.raises(calm.CalmError, match="All replicas of story-k4 are busy: try again in about 5 seconds"):
        next(connect(Overloaded()).stream(PROMPT, OPTIONS))
    texts = [
        "".join(event.text for event in client.stream(PROMPT, OPTIONS) if isinstance(event, calm.Step))
        for client in (connect(), connect(1, Overloaded(), Overloaded()))
    ]
    assert texts[0] == texts[1] == "".join(step.text for step in calm.stream(story, PROMPT, OPTIONS))


def test_errors_of_a_replica_reach_the_caller(connect, monkeypatch):
    with pytest.raises(calm.CalmError, match="no text to reconstruct"):
        connect().compute("reconstruct", "", 0.0, 0)
    with pytest.raises(calm.CalmError, match="at most 1"):
        next(connect().stream(PROMPT, calm.GenerationOptions(1.5, 8, sampler="exact")))
    monkeypatch.setitem(replica_module.OPERATIONS, "describe", lambda lm: 1 / 0)
    with pytest.raises(RuntimeError, match="ZeroDivisionError"):
        connect().describe()


def test_replicas_that_do_not_come_back_are_one_sentence(connect, monkeypatch):
    monkeypatch.setattr("calm.serving.client.PATIENCE", -1.0)
    with pytest.raises(calm.CalmError, match="No replica of story-k4 answers"):
        next(connect(0, 0, 0).stream(PROMPT, OPTIONS))


class QueuedThenLost:
    """Replicas in whose queue a request waits. The first ``count`` of them are lost, and the next one has no steps."""

    def __init__(self, count):
        self.count = count

    def stream(self, method, *arguments):
        yield [calm.Queued(1)]
        self.count -= 1
        if self.count >= 0:
            raise ReplicaLost


def test_a_request_whose_replicas_always_end_is_given_up(connect):
    client = connect(*[0] * (DEATHS + 1))
    with pytest.raises(calm.CalmError, match=f"{DEATHS} replicas of story-k4 ended while they computed this request"):
        next(client.stream(PROMPT, OPTIONS))
    assert len(client.replicas.calls) == DEATHS
    queued = QueuedThenLost(DEATHS + 1)
    client = Client("story-k4", queued, lambda seconds: None)
    assert [type(event) for event in client.stream(PROMPT, OPTIONS)] == [calm.Queued] * (DEATHS + 2)
    client = connect(*[NoReplica()] * 2 * DEATHS)  # a cluster that starts its replicas
    assert isinstance(next(client.stream(PROMPT, OPTIONS)), calm.Step) and client.losses == 0


def test_a_client_that_leaves_frees_its_slot(connect, both):
    events = connect().stream(PROMPT, calm.GenerationOptions(0.5, 480))
    next(event for event in events if isinstance(event, calm.Step))
    events.close()
    both[0].threads.submit(int).result()
    next(connect().stream(PROMPT, calm.GenerationOptions(0.5, 4)))  # the engine frees slots at its next step
    asyncio.run(both[0].check_health())
    assert both[0].load_figures()["queued"] == 0


def test_one_trace_shows_a_text_on_all_its_replicas(connect, spans):
    client = connect(1)
    with tracing.start("page", {tracing.REQUEST_ID: "r1"}) as page, page.active():
        steps = [event for event in client.stream(PROMPT, OPTIONS, request_id="r1") if isinstance(event, calm.Step)]
    ended = spans(6)
    (root,), (request,), replicas, texts = (
        [span for span in ended if span.name == name]
        for name in ("page", "request to a replica: generate", "replica: generate", "calm.generate")
    )
    assert {span.context.trace_id for span in ended} == {root.context.trace_id}
    assert {span.attributes[tracing.REQUEST_ID] for span in ended} == {"r1"}
    assert request.parent.span_id == root.context.span_id
    assert [event.name for event in request.events] == ["replica lost"]
    assert [span.parent.span_id for span in replicas] == [request.context.span_id] * 2
    assert {span.parent.span_id for span in texts} == {span.context.span_id for span in replicas}
    whole = max(texts, key=lambda span: span.end_time)
    assert whole.attributes["gen_ai.request.model"] == "story-k4"
    assert whole.attributes["gen_ai.request.temperature"] == OPTIONS.temperature
    assert 0 < whole.attributes["calm.steps"] < len(steps)  # the other replica had the first ones
    assert whole.attributes["gen_ai.usage.output_tokens"] == 4 * whole.attributes["calm.steps"]
    assert [event.name for event in whole.events][-1] == "first chunk"


def test_the_spans_of_a_request_record_its_error(connect, spans):
    with pytest.raises(calm.CalmError, match="no text to reconstruct"):
        connect().compute("reconstruct", "", 0.0, 0)
    replica, request = spans(2)
    assert replica.parent.span_id == request.context.span_id
    for span in (replica, request):
        assert "no text to reconstruct" in span.status.description and not span.status.is_ok
        assert [event.name for event in span.events] == ["exception"]
