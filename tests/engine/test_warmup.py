"""What happens on a machine where numba has not compiled the kernels yet."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
from numba import njit

import calm
from calm.cli import main
from calm.engine import warmup as compiling
from calm.engine.scheduler import Engine


def compile_something() -> int:
    return njit(lambda x: x + 1)(1)  # without a place to keep it


@pytest.fixture
def lm():
    return calm.load("story-k4", "cpu")


def test_a_model_writes_in_the_interim_without_its_kernels(lm, monkeypatch):
    interim = []

    def warm(lm):
        interim.append(lm.engine.interim)
        if not lm.engine.interim:
            compile_something()

    monkeypatch.setattr(compiling, "warm", warm)
    assert not compiling.warm_unless_compiling(lm)
    assert interim == [False, True]
    assert lm.engine.interim and not lm.engine.backbone.kernels and not hasattr(lm.engine.drawer, "kernels")


def test_nothing_changes_where_the_kernels_are_kept(lm):
    compiling.warm(lm)  # compiles them where they are not
    engine = lm.engine
    assert compiling.warm_unless_compiling(lm)
    assert lm.engine is engine and not engine.interim


def test_the_text_is_the_same_before_and_after(lm, story):
    lm.engine = before = Engine(lm, interim=True)
    begun = calm.generate(lm, "Once upon a time", seed=1, max_new_tokens=64)
    first = next(begun)
    compiling.end_interim(lm)
    assert lm.engine is not before and not lm.engine.interim and lm.engine.submit is before.submit
    expected = [step.text for step in calm.generate(story, "Once upon a time", seed=1, max_new_tokens=64)]
    assert [first.text, *(step.text for step in begun)] == expected  # the old one goes on with what it has begun
    assert [s.text for s in calm.generate(lm, "Once upon a time", seed=1, max_new_tokens=64)] == expected


def test_another_process_compiles():
    assert compiling.compile_apart("story-k4")


def test_it_is_told_once_and_only_on_a_cpu():
    told = []
    for device in ("cpu", "cuda"):
        with compiling.noticing(SimpleNamespace(device=torch.device(device)), partial(told.append, device)):
            compile_something()
            compile_something()
    compile_something()
    assert told == ["cpu"]


def test_the_command_says_why_it_takes_long(lm, monkeypatch, capsys):
    def generate(*_, **__):
        compile_something()
        yield from ()

    monkeypatch.setattr(calm, "load", lambda *_, **__: lm)
    monkeypatch.setattr(calm, "generate", generate)
    assert main(["generate", "Once"]) == 0
    told = capsys.readouterr()
    assert told.out == "Once\n" and told.err.startswith("Compiling for this machine, once")
