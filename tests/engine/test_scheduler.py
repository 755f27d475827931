"""Requests that share an engine: batches, queue and slots, and errors that stay with their request."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

import calm
from calm.engine import ComputeThread, create_engine, engine_for
from calm.engine.requests import Request
from calm.engine.samplers import LARGEST_BATCH, ChunkSampler, TokenSampler
from calm.engine.scheduler import SLOTS
from calm.generation import GenerationOptions, Queued, Step, stream

PROMPTS = ["", "Once upon a time", calm.storyland.prompt(0), "word " * 40]


def generate(lm, seed: int, **options):
    return calm.generate(lm, PROMPTS[seed % 4], **{"temperature": 0.8, "max_new_tokens": 48, "seed": seed, **options})


def token_ids(steps) -> list[list[int]]:
    return [step.token_ids for step in steps]


def interleave(runs) -> list[list[list[int]]]:
    """The token ids of several runs, which take a step each in turn."""
    results: list[list] = [[] for _ in runs]
    active = dict(enumerate(runs))
    while active:
        for i, run in list(active.items()):
            step = next(run, None)
            if step is None:
                del active[i]
            else:
                results[i].append(step.token_ids)
    return results


def test_a_text_is_the_same_alone_and_among_others(story):
    options = [{"temperature": 0.3 + 0.15 * i, "sampler": ("auto", "pooled")[i % 2]} for i in range(SLOTS)]
    alone = [token_ids(generate(story, i, **options[i])) for i in range(SLOTS)]
    assert interleave([generate(story, i, **options[i]) for i in range(SLOTS)]) == alone


@pytest.mark.parametrize("head", ["diffusion", "flow"])
def test_requests_of_iterative_heads_share_steps(tiny, head):
    lm = tiny(4, head=head, num_sampling_steps=4)
    options = [{"temperature": 1 - 0.1 * i, "pool_size": 40, "max_new_tokens": 20} for i in range(SLOTS)]
    alone = [token_ids(generate(lm, i, **options[i])) for i in range(SLOTS)]
    assert all(alone) and len({str(text) for text in alone}) == SLOTS
    assert interleave([generate(lm, i, **options[i]) for i in range(SLOTS)]) == alone


def test_threads_get_their_own_texts(story):
    alone = [token_ids(generate(story, i)) for i in range(2 * SLOTS)]
    results: list = [None] * len(alone)

    def visit(i: int) -> None:
        results[i] = token_ids(generate(story, i))

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(len(alone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert results == alone


@pytest.fixture
def reads(story, monkeypatch) -> list[tuple[int, int, bool]]:
    """For each backbone step of a new engine: how many requests it reads, how many are active, and whether one is
    new."""
    engine, reads = create_engine(story), []
    step = engine.backbone.step

    def watched(slots, counts, inputs):
        reads.append((len(slots), len(engine._active()), max(counts) > 1))
        return step(slots, counts, inputs)

    monkeypatch.setattr(engine.backbone, "step", watched)
    return reads


def test_requests_share_backbone_steps(story, reads):
    runs = [generate(story, 1, temperature=1.0, max_new_tokens=160) for _ in range(4)]
    steps = list(zip(*runs))
    assert len(reads) < 2 * len(steps), "four texts took more than one backbone step for each of their chunks"
    assert max(together for together, *_ in reads) == 4


def test_a_backbone_step_waits_for_half_of_the_requests(story, reads):
    assert list(zip(*(generate(story, i, max_new_tokens=160) for i in range(4))))
    shares = [together / active for together, active, new in reads if not new]
    assert min(shares) >= 0.5 and any(0.5 <= share < 1 for share in shares)  # it does not wait for all


def test_a_new_request_does_not_wait_for_large_pools(story, monkeypatch):
    engine, draws = create_engine(story), []
    busy = [generate(story, i, temperature=1.5, pool_size=1000) for i in range(SLOTS - 1)]
    for run in busy:
        next(run)
    draw = engine.head.draw
    monkeypatch.setattr(
        engine.head, "draw", lambda states, rows, noise: draws.append(len(rows)) or draw(states, rows, noise)
    )
    next(generate(story, SLOTS, temperature=1.0))
    assert len(draws) <= 3 and max(draws) <= LARGEST_BATCH * SLOTS


def test_more_requests_than_slots_are_queued_in_order_and_all_finish(tiny):
    lm = tiny(4)
    runs = [calm.generate(lm, "x", max_new_tokens=40, pool_size=4, seed=i) for i in range(SLOTS + 3)]
    for run in runs[:SLOTS]:
        next(run)
    assert engine_for(lm).queue == type(engine_for(lm).queue)()
    firsts = [next(run) for run in runs[SLOTS:]]  # on one thread, queued requests drive the running ones to their end
    assert [step.index for step in firsts] == [0, 0, 0]
    for i, run in enumerate(runs):
        assert len(list(run)) == 9, i


def test_queued_requests_report_their_position(tiny, monkeypatch):
    lm = tiny(4)
    running = [calm.generate(lm, "x", max_new_tokens=160, pool_size=4, seed=i) for i in range(SLOTS)]
    for run in running:
        next(run)
    events = [stream(lm, "x", GenerationOptions(max_new_tokens=8, pool_size=4)) for _ in range(3)]
    assert [next(run) for run in events] == [Queued(0), Queued(1), Queued(2)]
    events[0].close()
    assert next(events[2]) == Queued(1)
    with monkeypatch.context() as patch:
        patch.setattr("calm.engine.scheduler.REPORT_SECONDS", 0.0)
        # The position is repeated, so that a disconnected client is noticed.
        assert [next(events[2]), next(events[2])] == [Queued(1)] * 2
    for run in running:
        run.close()
    assert [type(event) for event in events[2]] == [Step, Step]


def test_a_closed_request_frees_its_slot_and_changes_no_other(story):
    alone = token_ids(generate(story, 3))
    closed, other = generate(story, 1), generate(story, 3)
    first = next(other)
    next(closed)
    closed.close()
    assert [first.token_ids, *token_ids(other)] == alone
    list(generate(story, 0))
    assert len(engine_for(story).running) <= 1


def test_a_request_pauses_if_its_caller_is_slow(tiny, monkeypatch):
    monkeypatch.setattr("calm.engine.scheduler.UNREAD_LIMIT", 8)
    lm = tiny(4)
    slow, quick = (calm.generate(lm, "x", max_new_tokens=120, pool_size=4, seed=i) for i in (0, 1))
    next(slow)
    list(quick)
    assert max(len(request.results) for request in engine_for(lm).running) == 8
    assert len(list(slow)) == 29


class BrokenSampler(ChunkSampler):
    """Fails in one of its methods after some calls."""

    def __init__(self, method: str, calls: int):
        super().__init__(0.5, 200, "auto", 0, torch.device("cpu"))
        working = getattr(self, method)

        def broken(*arguments):
            nonlocal calls
            calls -= 1
            if calls < 0:
                raise OverflowError("a fault of this request")
            return working(*arguments)

        setattr(self, method, broken)


BROKEN = [("draws_needed", 0), ("draws_needed", 7), ("noise", 2), ("feed", 0), ("feed", 3), ("choice", 1)]


@pytest.mark.parametrize("method, calls", BROKEN)
@pytest.mark.parametrize("threaded", [False, True])
def test_an_exception_ends_the_request_that_causes_it(story, method, calls, threaded):
    alone = [token_ids(generate(story, i)) for i in range(4)]
    with ComputeThread() as executor:
        engine = create_engine(story, executor if threaded else None)
        runs = [generate(story, i) for i in range(4)]
        firsts = [next(run).token_ids for run in runs]
        prompt = [story.tokenizer.eos_token_id] * 4
        with pytest.raises(OverflowError, match="a fault of this request"):
            list(engine.stream(Request(prompt, 20, BrokenSampler(method, calls))))
        assert [[first, *rest] for first, rest in zip(firsts, interleave(runs))] == alone
        create_engine(story)


@pytest.mark.parametrize("ids", [[10**6] * 4, [-(10**9)] * 4, ["a"] * 4, [2**70] * 4])
def test_unreadable_tokens_end_their_request_alone(story, ids):
    alone = [token_ids(generate(story, i)) for i in range(3)]
    engine = create_engine(story)
    runs = [generate(story, i) for i in range(3)]
    firsts = [next(run).token_ids for run in runs]
    bad = engine.stream(Request(ids, 4, ChunkSampler(0.5, 8, "auto", 0, story.device)))
    with pytest.raises((IndexError, ValueError, TypeError, RuntimeError)):
        next(bad)
    assert [[first, *rest] for first, rest in zip(firsts, interleave(runs))] == alone


def test_a_token_that_cannot_be_sampled_ends_its_request_alone(tiny_ar):
    alone = token_ids(generate(tiny_ar, 1))
    engine, good = create_engine(tiny_ar), generate(tiny_ar, 1)
    first = next(good).token_ids
    with pytest.raises(RuntimeError):  # at this temperature the logits overflow
        next(engine.stream(Request([1], 4, TokenSampler(1e-45, 0))))
    assert [first, *token_ids(good)] == alone


def test_a_failing_device_fails_every_request_and_may_recover(story, monkeypatch):
    started: list[int] = []
    results: list = []

    def failing(*_) -> None:
        while len(started) < 3:
            time.sleep(0.001)
        raise RuntimeError("out of memory")

    def visit(i: int) -> None:
        started.append(i)
        try:
            results.append(token_ids(generate(story, i)))
        except RuntimeError as error:
            results.append(str(error))

    with ComputeThread() as executor, ThreadPoolExecutor(3) as visitors:
        engine = create_engine(story, executor)
        step = engine.backbone.step
        monkeypatch.setattr(engine.backbone, "step", failing)
        assert all(run.result(60) is None for run in [visitors.submit(visit, i) for i in range(3)])
        assert results == ["out of memory"] * 3
        monkeypatch.setattr(engine.backbone, "step", step)
        visitors.submit(visit, 0).result(60)
        create_engine(story)
    assert results[3] == token_ids(generate(story, 0))


def test_an_executor_that_is_shut_down_leaves_no_caller_waiting(tiny):
    lm, executor = tiny(4), ComputeThread()
    create_engine(lm, executor)
    run = calm.generate(lm, "x", max_new_tokens=240, pool_size=4)
    next(run)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(run)


def test_a_request_beyond_the_exact_limit_ends_alone(tiny, monkeypatch):
    monkeypatch.setattr("calm.engine.samplers.EXACT_LIMIT", 50)
    lm = tiny(4)
    torch.manual_seed(0)
    lm.calm.generative_head.final_layer.linears[2].weight.data.normal_(std=5)  # every draw is another chunk
    good = calm.generate(lm, "x", max_new_tokens=40, pool_size=8)
    bad = calm.generate(lm, "x", temperature=0.1, sampler="exact", max_new_tokens=40)
    next(good)
    with pytest.raises(calm.CalmError, match="did not accept"):
        next(bad)
    assert len(list(good)) == 9


def test_a_slow_caller_does_not_lengthen_a_step(story, monkeypatch):
    clock = iter(range(1_000_000))
    monkeypatch.setattr("calm.engine.scheduler.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    create_engine(story)
    quick = [step.seconds for step in generate(story, 0)]
    slow = []
    for step in generate(story, 0):
        slow.append(step.seconds)
        for _ in range(100):
            next(clock)
    assert quick == slow and min(quick) > 0
    monkeypatch.setattr("calm.engine.scheduler.UNREAD_LIMIT", 1)  # the request pauses after each step
    paused = [step.seconds for step in generate(story, 0)]
    assert len(paused) == len(quick) and all(one >= other for one, other in zip(paused, quick))


def test_a_request_of_the_executor_that_waits_for_a_slot_does_not_stop_the_others(tiny, monkeypatch):
    monkeypatch.setattr("calm.engine.scheduler.UNREAD_LIMIT", 1)  # the others pause soon, far from their ends
    executor = ComputeThread()
    lm = tiny(4)
    create_engine(lm, executor)
    others = [generate(lm, i, max_new_tokens=400, temperature=1) for i in range(SLOTS)]
    for other in others:
        next(other)
    waiting = executor.run(iter, stream(lm, "Once", GenerationOptions(1, 8)))
    assert isinstance(executor.run(next, waiting), Queued) and isinstance(executor.run(next, waiting), Queued)
    executor.run(int)  # the thread is free
    for other in others:
        other.close()
    while isinstance(event := executor.run(next, waiting), Queued):
        pass
    assert isinstance(event, Step)


def test_a_failed_batch_of_tokens_changes_no_text(tiny_ar, monkeypatch):
    engine = create_engine(tiny_ar)
    alone = [token_ids(generate(tiny_ar, i)) for i in range(3)]
    step = engine._sample.args[0]
    sample = step.sample

    def failing(logits, *numbers):
        if len(logits) > 1:
            raise RuntimeError("no memory for so many")
        return sample(logits, *numbers)

    monkeypatch.setattr(step, "sample", failing)
    assert interleave([generate(tiny_ar, i) for i in range(3)]) == alone
