"""An unexpected exception in any tab, server function or endpoint is one sentence where the user looks."""

import re

import gradio as gr
import pytest

from app import controls, endpoints, fresh_samples, map_queries, page
from app.registry import DEFAULT
from app.streaming import Panel
from app.tabs import evaluate, generate, measuring, race, reconstruct, vectors

OWN = [{"run_id": "a", "prompt": "", "chunks": [[1, 2, 3, 4]], "vectors": [[0.0] * 64]}]
WORK = {
    "generate": (generate._run, generate, "loaded", [DEFAULT, "Once", 1.0, 4, 0, "auto", 8, 1]),
    "surprise": (generate._run_random, generate, "loaded", [DEFAULT, 1.0, 4, 0, "auto", 8, 1]),
    "reconstruct": (reconstruct._reconstruct, reconstruct, "loaded", [DEFAULT, "Once", 0.0, 0]),
    "curve": (reconstruct._measure_curve, reconstruct, "loaded", [DEFAULT, "Once", 0]),
    "fit": (vectors._fit, vectors, "loaded", [DEFAULT, OWN, 15, 0.1, "euclidean", 2, 0]),
    "race": (race._run, race, "loading", [DEFAULT, "Once", 1.0, 4, 0]),
    "evaluate": (evaluate._measure, measuring, "loaded", ["Once upon a time", [DEFAULT], 0]),
}
MESSAGES = {
    "draw_pool": (fresh_samples, {"prompt": "Once", "prefix_chunks": [], "chosen": [1, 2, 3, 4]}),
    "draw_cloud": (fresh_samples, {"prompt": "Once", "prefix_chunks": []}),
    "walk": (reconstruct, {"mean": [0.0] * 64, "direction": 0}),
    "place_chunks": (map_queries, {"chunks": [[1, 2, 3, 4]]}),
    "find_nearest": (map_queries, {"chunks": [[1, 2, 3, 4]]}),
}
CALLS = {
    "generate": lambda: list(endpoints.generate("Once")),
    "reconstruct": lambda: endpoints.reconstruct("Once"),
    "trajectory": lambda: list(endpoints.trajectory("Once")),
    "evaluate": lambda: list(endpoints.evaluate("Once upon a time there was")),
}


def fail(*arguments, **options):
    raise ZeroDivisionError("division by zero")


def check(sentence: str, caplog) -> None:
    """One sentence with a request id; the log has the traceback under that id."""
    (request_id,) = re.findall(r"\b[0-9a-f]{8}\b", sentence)
    assert "error in the program" in sentence and "division" not in sentence
    (record,) = [record for record in caplog.records if record.exc_info]
    assert request_id in record.getMessage() + str(vars(record)) and record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("name", WORK)
def test_each_tab_shows_the_sentence_restores_its_buttons_and_marks_the_old_result(monkeypatch, caplog, name):
    work, module, part, inputs = WORK[name]
    monkeypatch.setattr(module, part, fail)
    with gr.Blocks():
        panel = Panel([gr.JSON(), gr.JSON(), gr.JSON()], gr.HTML(), *controls.start_and_stop("Go", "go"))
    *_, last = panel.run(work, *inputs)
    *results, status, start, stop = last
    assert results[0] == gr.skip() and 'role="alert"' in status and 'data-stale="true"' in status
    assert (start["visible"], stop["visible"]) == (True, False)
    check(status, caplog)


@pytest.mark.parametrize("name", MESSAGES)
def test_each_server_function_returns_the_sentence(monkeypatch, caplog, name):
    module, message = MESSAGES[name]
    monkeypatch.setattr(module, "loaded", fail)
    answer = getattr(module, name)({"model": DEFAULT, **message})
    assert set(answer) == {"error"}
    check(answer["error"], caplog)


@pytest.mark.parametrize("name", CALLS)
def test_each_endpoint_raises_the_sentence(monkeypatch, caplog, name):
    for module in (endpoints, generate):
        monkeypatch.setattr(module, "loaded", fail)
    with pytest.raises(gr.Error) as raised:
        CALLS[name]()
    check(raised.value.message, caplog)


def test_the_menu_of_models_shows_the_sentence(monkeypatch, caplog):
    monkeypatch.setattr(page, "described", fail)
    check(list(page.choose_model(DEFAULT))[-1][0], caplog)
