import gradio as gr
import pytest

from app import endpoints
from app.tabs import generate

CALLS = {
    "generate": lambda: list(endpoints.generate("Once")),
    "reconstruct": lambda: endpoints.reconstruct("Once"),
    "trajectory": lambda: list(endpoints.trajectory("Once")),
    "evaluate": lambda: list(endpoints.evaluate("Once upon a time there was")),
}


@pytest.mark.parametrize("name", CALLS)
def test_any_error_of_an_endpoint_is_reported_in_one_sentence(monkeypatch, caplog, name):
    def fail(*arguments):
        raise ZeroDivisionError("division by zero")

    for module in (endpoints, generate):
        monkeypatch.setattr(module, "loaded", fail)
    with pytest.raises(gr.Error) as raised:
        CALLS[name]()
    assert "error in the program" in raised.value.message and "division" not in raised.value.message
    assert "ZeroDivisionError" in caplog.text


def test_an_endpoint_treats_a_missing_prompt_as_empty():
    *_, last = endpoints.generate(None, max_new_tokens=8)
    assert last["steps"] == 2 and last["text"]


@pytest.mark.parametrize("prompt", [5, ["Once"], {"text": "Once"}])
def test_a_prompt_that_is_not_text_is_reported_in_one_sentence(prompt):
    with pytest.raises(gr.Error, match="The prompt must be text"):
        list(endpoints.generate(prompt))
