"""The command that serves replicas, with a stand-in for Ray."""

import os
import signal
from types import SimpleNamespace

import pytest

import calm.serving
from calm.cli import main


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_replicas_and_the_exit_code_is_0(monkeypatch, number):
    calls = []
    ray = SimpleNamespace(
        Scale=lambda *bounds, **options: bounds,
        connect=lambda address: calls.append("connect"),
        start=lambda *_, **options: os.kill(os.getpid(), number),
        stop=lambda: calls.append("stop"),
    )
    monkeypatch.setattr(calm.serving, "deployment", ray, raising=False)
    with pytest.raises(SystemExit) as end:
        main(["serve", "--ray"])
    assert end.value.code == 0 and calls == ["connect", "stop"]
