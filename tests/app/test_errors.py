import asyncio
import logging
import re

import gradio as gr
import pytest
import torch

from app.controls import error_line
from app.errors import Page, answers_with_error, api_errors, error_sentence
from calm import CalmError


def test_the_message_of_a_calm_error_is_shown(caplog):
    assert error_sentence(CalmError("Too long.")) == "Too long."
    assert not caplog.records


def test_any_other_error_is_logged_under_the_id_in_its_message(caplog):
    try:
        {}["missing"]
    except KeyError as error:
        sentence = error_sentence(error)
    (request_id,) = re.findall(r"\b[0-9a-f]{8}\b", sentence)
    assert sentence.endswith(".") and "missing" not in sentence and "KeyError" not in sentence
    (record,) = caplog.records
    assert record.levelno == logging.ERROR and request_id in record.getMessage()
    assert "KeyError: 'missing'" in caplog.text and "Traceback" in caplog.text


@pytest.mark.parametrize(("error", "sentence"), [(CalmError("Too long."), "Too long."), (KeyError(1), "error in the")])
def test_server_functions_and_endpoints_share_the_boundary(error, sentence):
    def fail(request):
        raise error

    answer = answers_with_error(fail)({})
    assert set(answer) == {"error"} and sentence in answer["error"]
    with pytest.raises(gr.Error) as raised, api_errors():
        fail({})
    assert sentence in raised.value.message and not raised.value.print_exception


def test_a_request_with_too_few_inputs_is_reported_with_both_numbers():
    with Page() as page:
        gr.Button().click(lambda *_: None, [gr.Number(), gr.Number()], None, api_name="add")
    (function,) = page.fns.values()
    with pytest.raises(CalmError, match="add takes 2 inputs; the request has 1"):
        asyncio.run(page.preprocess_data(function, [1], None))


def test_input_that_gradio_cannot_parse_is_reported_in_one_sentence():
    with Page() as page:
        box, out = gr.Number(precision=0), gr.Number()
        box.submit(lambda number: number, box, out, api_name="echo")
    (function,) = page.fns.values()
    with pytest.raises(gr.Error) as raised:
        asyncio.run(page.process_api(function, [{"not": "a number"}]))
    assert "does not have the form" in raised.value.message


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")])
def test_a_full_memory_is_named(error):
    assert "because the server is out of memory; try fewer samples per step" in error_sentence(error)


def test_errors_are_escaped():
    assert "<script>" not in error_line("<script>alert(1)</script>")
