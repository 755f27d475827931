import gradio as gr
import pytest

import calm
from app import endpoints
from app.backends import LocalModel
from app.registry import loaded
from app.tabs import generate, passages

CALLS = {
    "generate": lambda: list(endpoints.generate("Once")),
    "reconstruct": lambda: endpoints.reconstruct("Once"),
    "trajectory": lambda: list(endpoints.trajectory("Once")),
    "evaluate": lambda: list(endpoints.evaluate("Once upon a time there was")),
    "search": lambda: endpoints.search("Once upon a time there was", "a time"),
}


@pytest.mark.parametrize("name", CALLS)
def test_any_error_of_an_endpoint_is_reported_in_one_sentence(monkeypatch, caplog, name):
    def fail(*arguments):
        raise ZeroDivisionError("division by zero")

    for module in (endpoints, generate, passages):
        monkeypatch.setattr(module, "loaded", fail)
    with pytest.raises(gr.Error) as raised:
        CALLS[name]()
    assert "error in the program" in raised.value.message and "division" not in raised.value.message
    assert "ZeroDivisionError" in caplog.text


def test_a_search_finds_the_passage_of_its_query():
    documents = list(calm.storyland.stories("page_examples", 3))
    lm = calm.load("story-k4", device="cpu")
    ids = lm.tokenize(documents[1])
    query = lm.detokenize(ids[8:16])
    found = endpoints.search("\n\n".join(documents), query, count=3)
    assert len(found) == 3 and [each["distance"] for each in found] == sorted(each["distance"] for each in found)
    best = found[0]
    assert best["document"] == 1 and best["text"] == query == documents[1][best["start"] : best["end"]]
    *_, progress = passages._search("\n\n".join(documents), query, "story-k4")
    assert f"<mark>{query}</mark>" in progress.results[0] and "in 3 documents" in progress.status
    with pytest.raises(gr.Error, match="token by token"):
        endpoints.search("Once upon a time", "a time", model="story-ar")
    with pytest.raises(gr.Error, match="number of passages must be"):
        endpoints.search("Once upon a time", "a time", count=51)


def test_an_endpoint_treats_a_missing_prompt_as_empty():
    *_, last = endpoints.generate(None, max_new_tokens=8)
    assert last["steps"] == 2 and last["text"]


def test_a_text_equals_that_of_the_library_and_nothing_else_is_computed(monkeypatch):
    monkeypatch.setattr(LocalModel, "encode", None)
    first, *_, last = endpoints.generate("Once", 0.7, 64, 3)
    steps = list(calm.generate(loaded().lm, "Once", 0.7, 64, seed=3))
    assert first == {"text": "Once" + steps[0].text, "steps": 1, "ended": False}
    assert last == {"text": "Once" + "".join(step.text for step in steps), "steps": len(steps), "ended": False}


def test_an_endpoint_ends_the_line_of_a_story_prompt_as_the_page_does():
    prompt = calm.storyland.prompt(3)
    texts = [list(endpoints.generate(given, max_new_tokens=8))[-1]["text"] for given in (prompt, prompt.strip())]
    assert texts[0] == texts[1] and texts[0].startswith(prompt)


@pytest.mark.parametrize("prompt", [5, ["Once"], {"text": "Once"}])
def test_a_prompt_that_is_not_text_is_reported_in_one_sentence(prompt):
    with pytest.raises(gr.Error, match="The prompt must be text"):
        list(endpoints.generate(prompt))
