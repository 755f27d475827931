"""Runs: several steps without a decision between them, whose texts equal those of single steps to the bit."""

import logging
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import calm
from calm.engine import Backend, create_engine
from calm.generation import GenerationOptions, stream

from .test_scheduler import interleave, token_ids


@pytest.fixture(params=["calm", "token by token"])
def lm(request, tiny, tiny_ar, monkeypatch) -> calm.LanguageModel:
    monkeypatch.setattr("calm.engine.backbone.SMALLEST_CACHE", 8)  # so that the cache grows within a text
    # Multiples of 16: in other widths PyTorch rounds the last numbers of a tensor differently on a CPU with AVX-512.
    return tiny(4, autoencoder_width=32) if request.param == "calm" else tiny_ar


@pytest.fixture(params=[Backend.CUDA_GRAPHS, Backend.CPU_KERNELS], ids=["graphs", "kernels"])
def backend(request) -> Backend:
    return request.param


def create(lm, backend: Backend, run_steps: int):
    """A new engine whose runs have up to so many steps, and a list of the steps of each run."""
    engine, lengths = create_engine(lm, backend=backend), []
    engine.run_steps, run = run_steps, engine.backbone.run

    def recorded(layers, state, numbers, ends):
        lengths.append(len(numbers))
        return run(layers, state, numbers, ends)

    engine.backbone.run = recorded
    return engine, lengths


@pytest.fixture
def engine_with(lm, backend):
    return partial(create, lm, backend)


def generate(lm, seed: int, **options):
    # The tiny models seldom end a text; the context ends it at the latest.
    options = {"temperature": 1.0, "max_new_tokens": 300, "seed": seed, **options}
    return calm.generate(lm, "word " * (3 * seed), **options)


def contents(steps) -> list[tuple]:
    return [(s.token_ids, s.text, s.draws, s.random_numbers, np.asarray(s.vector).tobytes()) for s in steps]


@pytest.mark.parametrize("run_steps", [1, 3, 8])
def test_a_text_in_runs_equals_the_text_of_single_steps(lm, engine_with, run_steps):
    _, lengths = engine_with(0)
    expected = [contents(generate(lm, seed)) for seed in range(4)]
    assert not lengths and max(map(len, expected)) > 40
    _, lengths = engine_with(run_steps)
    assert [contents(generate(lm, seed)) for seed in range(4)] == expected
    assert max(lengths) == run_steps


def test_a_text_that_ends_within_a_run_ends_there(lm, engine_with):
    engine_with(0)
    whole = token_ids(generate(lm, 1))
    end = whole[12][-1]
    lm.text_format = calm.hub.text_format.TextFormat(lm.text_format.start_id, frozenset([end]))
    engine_with(0)
    expected = token_ids(generate(lm, 1))
    assert len(expected) <= 13
    engine, _ = engine_with(8)
    assert token_ids(generate(lm, 1)) == expected and token_ids(generate(lm, 2)) and not engine.queue


def test_a_run_draws_no_chunk_beyond_the_last_one(lm, engine_with):
    _, lengths = engine_with(8)
    for steps in (2, 12, 13):
        lengths.clear()
        assert len(list(generate(lm, 1, max_new_tokens=steps * lm.chunk_size))) == steps
        assert lengths and sum(lengths) < steps


def test_a_text_that_is_left_during_a_run_does_not_change_the_next_one(lm, engine_with):
    engine_with(0)
    expected = contents(generate(lm, 2))
    _, lengths = engine_with(8)
    text = generate(lm, 1)
    while next(text) and not lengths:
        pass
    text.close()
    lengths.clear()
    assert contents(generate(lm, 2)) == expected and lengths, "the next text gets slot 0 and has runs"


def test_the_steps_of_a_run_share_its_seconds(lm, engine_with, monkeypatch):
    clock = iter(np.arange(1_000_000) / 1_000_000)
    monkeypatch.setattr("calm.engine.scheduler.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    _, lengths = engine_with(8)
    start = next(clock)
    seconds = [step.seconds for step in generate(lm, 1)]
    assert min(seconds) > 0 and sum(seconds) < next(clock) - start
    assert lengths[:3] == [1, 2, 3], "runs of 1, 2 and 3 steps follow a first single step"
    assert len(set(seconds[2:4])) == len(set(seconds[4:7])) == 1


def test_a_slow_run_is_followed_by_a_single_step(lm, monkeypatch):
    """So that chunks of a large model do not appear eight at a time. A GPU does not wait for a run."""
    clock = iter(range(1_000_000))
    monkeypatch.setattr("calm.engine.scheduler.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    for backend in (Backend.CPU_KERNELS, Backend.CUDA_GRAPHS):
        _, lengths = create(lm, backend, 8)
        assert list(generate(lm, 1)) and (max(lengths) == 1) == (backend is Backend.CPU_KERNELS)


def test_runs_stop_while_other_texts_are_generated(lm, engine_with):
    engine_with(0)
    alone = [token_ids(generate(lm, seed)) for seed in range(3)]
    _, lengths = engine_with(8)
    assert interleave([generate(lm, seed) for seed in range(3)]) == alone
    first = generate(lm, 0)
    taken = [next(first).token_ids for _ in range(4)]  # the engine has already started the next run of this text
    count = len(lengths)
    assert count and token_ids(generate(lm, 1)) == alone[1] and len(lengths) == count, "slot 1 has no runs"
    assert [*taken, *token_ids(first)] == alone[0]
    lengths.clear()
    assert token_ids(generate(lm, 0)) == alone[0] and max(lengths) == 8, "slots of ended texts do not limit runs"


def test_a_decision_between_steps_excludes_runs(tiny, backend):
    lm = tiny(4)
    for options in ({"temperature": 0.9}, {"sampler": "pooled"}):
        _, lengths = create(lm, backend, 8)
        assert list(generate(lm, 0, max_new_tokens=40, **options)) and not lengths
    _, lengths = create(lm, backend, 8)
    assert list(generate(lm, 0, max_new_tokens=40, sampler="pooled", pool_size=1)) and lengths


def test_a_text_of_runs_can_be_continued_elsewhere(lm, engine_with):
    engine_with(8)
    steps = list(generate(lm, 1))
    for count in (1, 6):
        engine_with(8)
        options = GenerationOptions(1.0, 300, seed=1)
        rest = list(stream(lm, "word " * 3, options, completed=[step.completed() for step in steps[:count]]))
        assert token_ids(rest) == token_ids(steps[count:])


def test_a_run_that_fails_leaves_single_steps(lm, engine_with, caplog):
    engine_with(0)
    expected = token_ids(generate(lm, 1))
    engine, _ = engine_with(8)
    engine.backbone.run = lambda *_: 1 / 0
    with caplog.at_level(logging.WARNING):
        assert token_ids(generate(lm, 1)) == expected
    assert engine.run_steps == 0 and "every step runs alone" in caplog.text
