"""Warm-up on a machine on which numba has not compiled the kernels."""

import subprocess
import threading
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from numba import njit

import calm
from calm.cli import main
from calm.engine import Backend, ComputeThread, create_engine, engine_for, warmup
from calm.engine.backbone import CpuBackboneStep
from calm.engine.head import ModuleHeadStep


def compile_something() -> int:
    return njit(lambda x: x + 1)(1)  # and store nothing


@pytest.fixture
def lm():
    return calm.load("story-k4", "cpu")


def test_a_fallback_engine_runs_without_kernels(lm, monkeypatch):
    fallback = []

    def warm_up(lm):
        fallback.append(engine_for(lm).is_fallback)
        if not engine_for(lm).is_fallback:
            compile_something()

    monkeypatch.setattr(warmup, "warm_up", warm_up)
    assert not warmup.warm_up_or_fall_back(lm)
    assert fallback == [False, True]
    engine = engine_for(lm)
    assert (
        engine.is_fallback
        and not isinstance(engine.backbone, CpuBackboneStep)
        and isinstance(engine.head, ModuleHeadStep)
    )


def test_stored_kernels_need_no_fallback(lm):
    warmup.warm_up(lm)  # compiles them if they are not stored
    assert warmup.warm_up_or_fall_back(lm)
    engine = engine_for(lm)
    assert isinstance(engine.backbone, CpuBackboneStep) and not engine.is_fallback


def test_the_fallback_engine_finishes_its_requests(lm, story):
    executor = ComputeThread()
    before = create_engine(lm, executor, Backend.PYTORCH)
    assert before.is_fallback
    running = calm.generate(lm, "Once upon a time", seed=1, max_new_tokens=64)
    first = next(running)
    warmup.replace_fallback(lm)
    engine = engine_for(lm)
    assert engine is not before and not engine.is_fallback and engine.executor is executor
    expected = [step.text for step in calm.generate(story, "Once upon a time", seed=1, max_new_tokens=64)]
    assert [first.text, *(step.text for step in running)] == expected
    assert [s.text for s in calm.generate(lm, "Once upon a time", seed=1, max_new_tokens=64)] == expected


def test_another_process_compiles():
    assert warmup.compile_in_subprocess("story-k4")


@pytest.mark.parametrize(("failures", "compiled"), [(1, True), (2, False)])
def test_a_compiler_that_is_killed_is_started_once_more(failures, compiled, monkeypatch, caplog):
    codes = iter(["import os; os.kill(os.getpid(), 9)"] * failures + [""])
    start = subprocess.Popen

    def popen(command, **options):
        return start([command[0], "-c", next(codes)], **options)

    monkeypatch.setattr(warmup.subprocess, "Popen", popen)
    assert warmup.compile_in_subprocess("story-k4") is compiled
    assert [record.message for record in caplog.records] == [
        "The kernels of story-k4 could not be compiled (exit code -9), so PyTorch computes."
    ] * failures


def test_a_compiler_that_is_stopped_is_not_started_again(monkeypatch, caplog):
    started = []
    start = subprocess.Popen

    def popen(command, **options):
        started.append(command)
        process = start([command[0], "-c", "import time; time.sleep(60)"], **options)
        warmup.stop_compilers()  # before the process is in the list of those that it ends
        return process

    monkeypatch.setattr(warmup, "_stopping", threading.Event())
    monkeypatch.setattr(warmup.subprocess, "Popen", popen)
    assert not warmup.compile_in_subprocess("story-k4")
    assert len(started) == 1 and not caplog.records


def test_kernels_that_cannot_be_stored_leave_a_fallback_engine(lm, monkeypatch):
    def warm_up(lm):
        if not engine_for(lm).is_fallback:
            compile_something()

    monkeypatch.setattr(warmup, "warm_up", warm_up)
    create_engine(lm, backend=Backend.PYTORCH)
    assert not warmup.replace_fallback(lm) and engine_for(lm).is_fallback


def test_the_callback_is_called_once_and_only_on_a_cpu():
    devices = []
    for device in ("cpu", "cuda"):
        with warmup.on_compile(SimpleNamespace(device=torch.device(device)), partial(devices.append, device)):
            compile_something()
            compile_something()
    compile_something()
    assert devices == ["cpu"]


def test_the_command_prints_why_it_takes_long(lm, monkeypatch, capsys):
    def generate(*_, **__):
        compile_something()
        yield from ()

    monkeypatch.setattr(calm, "load", lambda *_, **__: lm)
    monkeypatch.setattr(calm, "generate", generate)
    assert main(["generate", "Once"]) == 0
    printed = capsys.readouterr()
    assert printed.out == "Once\n" and printed.err.startswith("Compiling kernels for this CPU")
