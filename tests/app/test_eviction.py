"""A budget of memory for all models: those that were used longest ago leave it, and no text is lost or changed."""

import gc
import threading
from weakref import ref

import pytest

import calm
from app import backends, health, leases, metrics, registry
from app.leases import models_to_unload
from app.tabs import generate as generate_tab
from calm import CalmError
from calm.engine import engine_for
from calm.engine.memory import used_memory

from .arguments import run_arguments

ARGUMENTS = {"prompt": "Once upon a time", "temperature": 0.9, "max_new_tokens": 32, "seed": 3}


@pytest.fixture
def names(monkeypatch, tiny, tmp_path) -> list[str]:
    """Three models of different chunk sizes in the menu, none of them loaded, and memory for two."""
    from calm.hub.saving import save

    folders = [str(tmp_path / f"k{k}") for k in (4, 2, 1)]
    for folder, k in zip(folders, (4, 2, 1)):
        save(tiny(k), folder)
    monkeypatch.setenv("CALM_MODELS", ",".join(folders))
    monkeypatch.setattr(registry, "_loads", {})
    monkeypatch.setattr(registry, "_unloaded", set())
    most = max(sum(parameter.nbytes for parameter in tiny(k).model.parameters()) for k in (4, 2, 1))
    monkeypatch.setenv("CALM_MEMORY", str(5 * most))  # a load reserves up to twice the weights
    return folders


def text(name: str) -> list[list[int]]:
    """The chunks of a whole text."""
    *_, (run,) = generate_tab.stream(registry.loaded(name), run_arguments(**ARGUMENTS))
    return [step["token_ids"] for step in run.payload["steps"]]


def solo(name: str) -> list[list[int]]:
    """The chunks of the same text from a model of its own."""
    options = run_arguments(**ARGUMENTS).options()
    return [step.token_ids for step in calm.stream(calm.load(name), ARGUMENTS["prompt"], options)]


def test_texts_of_three_models_equal_their_solo_runs_under_a_budget_of_two(names):
    expected = {name: solo(name) for name in names}
    failures: list[object] = []

    def visit(order: list[str]) -> None:
        for name in order:
            try:
                if text(name) != expected[name]:
                    failures.append(name)
            except Exception as error:
                failures.append(error)
            if len(registry.loaded_names()) > 2:
                failures.append(registry.loaded_names())

    a, b, c = names
    visitors = [threading.Thread(target=visit, args=(order,), daemon=True) for order in ([a, b, c], [b, c, a])]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join(timeout=120)
        assert not visitor.is_alive()
    assert not failures and registry._unloaded


def test_a_model_with_a_running_text_stays_and_another_request_reads_both_figures(names):
    first, second, third = names
    runs = [generate_tab.stream(registry.loaded(name), run_arguments(**ARGUMENTS)) for name in (first, second)]
    for run in runs:
        next(run)
    with pytest.raises(CalmError, match=rf"{third} needs \d.\d\d GB of memory and \d.\d\d GB can be freed") as e:
        text(third)
    assert f"requests use {first}, {second}; try again when they have ended, or choose fewer models." in str(e.value)
    del e
    gc.collect()
    assert leases.leased() == {first, second}  # the error keeps no request in memory
    assert set(registry.loaded_names()) == {first, second} and not registry._unloaded
    for name, run in zip((first, second), runs):
        *_, (last,) = run
        assert [step["token_ids"] for step in last.payload["steps"]] == solo(name)


def test_an_unloaded_model_leaves_nothing_in_memory_and_the_page_is_ready(names, monkeypatch):
    first, second, third = names
    monkeypatch.setattr(health, "DEFAULT", first)
    assert health.health()["status"] == "starting"
    lm = registry.loaded(first).lm
    parts = [lm, lm.model, lm.backbone.norm.weight, engine_for(lm), engine_for(lm).backbone, engine_for(lm).head]
    left = [ref(part) for part in parts]
    assert registry.used_memory() == {first: used_memory(lm)} == health.health()["memory"]
    del lm, parts
    text(second)
    text(first)  # the second model is now the one that was used longest ago
    text(third)
    assert set(registry.loaded_names()) == {first, third} and registry._unloaded == {second}
    text(second)
    assert set(registry.loaded_names()) == {second, third}
    gc.collect()
    assert [part() for part in left] == [None] * len(left)
    state = health.health()
    assert (state["status"], state["models"]) == ("ready", [second, third])
    assert set(state["memory"]) == {second, third}
    figures = metrics.render().decode()
    assert f'calm_model_memory_bytes{{model="{second}"}}' in figures and first not in figures


def test_a_model_counts_as_soon_as_it_takes_memory(names, monkeypatch):
    first, load = names[0], backends.LocalBackend.load
    sizes = []

    def loaded_late(self, *arguments):
        lm = load(self, *arguments)
        sizes.append(registry.used_memory())  # the load has not returned, and another one may ask
        return lm

    monkeypatch.setattr(backends.LocalBackend, "load", loaded_late)
    registry.loaded(first)
    assert [list(size) for size in sizes] == [[first]]


@pytest.mark.parametrize(
    ("needed", "free", "limit", "chosen"),
    [
        (10, None, None, []),
        (10, 10, "", []),
        (10, 9, "", ["old"]),
        (25, 5, "", ["old", "new"]),
        (10, None, "40", ["old"]),
        (10, None, "45", []),
        (10, 0, "45", ["old"]),
    ],
)
def test_the_models_that_were_used_longest_ago_make_room(needed, free, limit, chosen, monkeypatch):
    monkeypatch.setenv("CALM_MEMORY", limit or "")
    monkeypatch.setattr(leases, "leased", lambda: {"busy"})
    assert models_to_unload("next", needed, free, {"old": 10, "busy": 15, "new": 10}) == chosen


def test_a_model_that_never_fits_is_refused_before_others_leave(monkeypatch):
    monkeypatch.setenv("CALM_MEMORY", "5GB")
    with pytest.raises(CalmError, match=r"next needs 6\.00 GB of memory and CALM_MEMORY allows 5\.00 GB\."):
        models_to_unload("next", 6 * 10**9, None, {"old": 10**9})
    monkeypatch.setenv("CALM_MEMORY", "")
    with pytest.raises(CalmError, match=r"next needs 6\.00 GB of memory and 3\.00 GB can be freed; choose"):
        models_to_unload("next", 6 * 10**9, 2 * 10**9, {"old": 10**9})
