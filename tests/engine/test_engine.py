"""Each model has one engine. Its steps run on the executor's thread."""

import gc
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import calm
from calm.engine import ComputeThread, Engine, create_engine, engine_for


def test_all_threads_get_one_engine(tiny, monkeypatch):
    lm, created = tiny(4), []

    def count(model):
        created.append(model)
        return Engine(model)

    monkeypatch.setattr("calm.engine.Engine", count)
    with ThreadPoolExecutor(8) as threads:
        engines = set(threads.map(engine_for, [lm] * 32))
    assert len(engines) == len(created) == 1


@pytest.mark.parametrize("backend", list(calm.engine.Backend))
def test_an_engine_is_freed_with_its_model(tiny, backend):
    lm = tiny(4)
    engine = weakref.ref(create_engine(lm, backend=backend))
    assert list(calm.generate(lm, "x", max_new_tokens=8, pool_size=4))
    assert engine() is engine_for(lm)
    del lm
    gc.collect()
    assert engine() is None


def test_models_have_engines_of_their_own(tiny):
    one, other = tiny(4), tiny(4)
    assert engine_for(one) is engine_for(one) is not engine_for(other)
    assert create_engine(one) is engine_for(one)


def test_loading_a_model_needs_no_engine():
    code = "import sys, calm.hub.loading; print([name for name in sys.modules if name.startswith('calm.engine')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_steps_run_on_the_executors_thread_alone(tiny, monkeypatch):
    lm, threads = tiny(4), set()
    with ComputeThread("steps") as executor:
        engine = create_engine(lm, executor)
        step = engine.backbone.step
        monkeypatch.setattr(engine.backbone, "step", lambda *a: (threads.add(threading.current_thread()), step(*a))[1])
        expected = [step.token_ids for step in calm.generate(lm, "x", max_new_tokens=24, pool_size=4)]
        inside = executor.run(lambda: [s.token_ids for s in calm.generate(lm, "x", max_new_tokens=24, pool_size=4)])
    assert inside == expected and [thread.name for thread in threads] == ["steps_0"]


def test_a_compute_thread_runs_calls_and_returns_their_errors():
    with ComputeThread() as executor:
        assert not executor.is_current() and executor.run(executor.is_current)
        assert executor.run(executor.run, executor.is_current), "a nested call does not wait for itself"
        with pytest.raises(ZeroDivisionError):
            executor.run(lambda: 1 / 0)
