"""Arguments of every kind at the border: one sentence for each mistake, the same value for each form."""

import inspect
import json
import math

import gradio as gr
import pytest

from app import endpoints, limits
from app.fresh_samples import draw_cloud, draw_pool
from app.map_queries import find_nearest, place_chunks
from app.map_requests import FitArguments
from app.registry import DEFAULT
from app.requests import (
    BranchArguments,
    EvaluateArguments,
    ExampleArguments,
    GenerateArguments,
    ReconstructArguments,
    ScoreArguments,
    StepArguments,
    TrajectoryArguments,
    WalkArguments,
)
from app.tabs import evaluate, generate, race, reconstruct, vectors
from app.validation import validated
from calm import CalmError

ODD = [
    None,
    True,
    "",
    "x",
    "\ud800",
    "\0",
    "<script>alert(1)</script>",
    "9" * 5000,
    [],
    [[]],
    {},
    {"value": 1},
    -1,
    2**64,
    10**400,
    1e-320,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    "nan",
    "1_0",
]
OPTIONS = {"temperature": 0.5, "max_new_tokens": 8, "pool_size": 8, "sampler": "auto", "seed": 0, "alignment": None}
GOOD = {
    GenerateArguments: {"prompt": "Once"},
    TrajectoryArguments: {"prompt": "Once"},
    ExampleArguments: {"example": 0},
    ReconstructArguments: {"text": "Once"},
    EvaluateArguments: {"text": "Once", "models": [DEFAULT]},
    ScoreArguments: {"text": "Once"},
    StepArguments: {"model": DEFAULT, "prompt": "Once", "prefix_chunks": [[1, 2, 3, 4]], "chosen": [1, 2, 3, 4]},
    WalkArguments: {"model": DEFAULT, "mean": [0.0], "direction": 0, "target": [1.0]},
    FitArguments: {
        "model": DEFAULT,
        "own": [{"run_id": "a", "prompt": "", "chunks": [[1]], "vectors": [[0.0]]}],
        "neighbours": 15,
        "min_dist": 0.1,
        "metric": "euclidean",
        "dimensions": 2,
        "seed": 0,
    },
    BranchArguments: {
        "branch": {
            "model": DEFAULT,
            "prompt": "Once",
            "run_id": "a",
            "origin": {"model": DEFAULT, "prompt": "Once", "options": OPTIONS, "branches": []},
            "steps": [],
            "vectors": [],
            "pool": {"candidates": [], "other_counts": []},
            "choice": 0,
        }
    },
}


def is_sentence(text: str) -> bool:
    return text.endswith(".") and len(text) < 400 and "Traceback" not in text and "\n" not in text


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_each_kind_takes_good_values_and_answers_odd_ones_with_a_sentence(kind):
    good = GOOD[kind]
    parsed = kind.parse(good)
    assert kind.parse(parsed.model_dump()) == parsed
    for name in kind.model_fields:
        for value in ODD:
            try:
                assert isinstance(kind.parse({**good, name: value}), kind)
            except CalmError as error:
                assert is_sentence(str(error)), (name, value, str(error))
    for value in ODD:
        if not isinstance(value, dict):
            with pytest.raises(CalmError, match=r"form|step|vector"):
                kind.parse(value)


@pytest.mark.parametrize("name", ["temperature", "max_new_tokens", "seed", "pool_size", "samples"])
def test_numbers_and_numeric_strings_are_the_same(name):
    forms = [1, 1.0, "1", " 1 ", "1.0", "1e0"]
    assert {getattr(GenerateArguments.parse({name: form}), name) for form in forms} == {1}


@pytest.mark.parametrize("value", [2**53 + 1, str(2**53 + 1), f" {2**53 + 1}.0 ", "9007199254740.993e3"])
def test_whole_numbers_keep_every_digit(value):
    assert GenerateArguments.parse({"seed": value}).seed == 2**53 + 1


@pytest.mark.parametrize("value", [10**40, "1" + "0" * 40, "1e40", 1e300, "1e999999999"])
def test_whole_numbers_have_at_most_40_digits(value):
    with pytest.raises(CalmError, match=r"^Random seed must be a whole number of at most 40 digits\.$"):
        GenerateArguments.parse({"seed": value})
    assert GenerateArguments.parse({"seed": 10**40 - 1}).seed == 10**40 - 1


def test_noise_has_the_bounds_of_the_slider():
    assert ReconstructArguments.parse({"text": "x", "noise": limits.MAX_NOISE}).noise == limits.NOISE_LEVELS[-1]
    for noise in (limits.MAX_NOISE + 0.01, -0.1):
        with pytest.raises(CalmError, match="The noise must be between 0 and 3"):
            ReconstructArguments.parse({"text": "x", "noise": noise})


def test_a_branch_gives_its_model_and_prompt_and_no_other_argument():
    branch = {**GOOD[BranchArguments]["branch"], "samples": 4, "seed": 7, "visitor": "other"}
    parsed = BranchArguments.parse({"branch": branch})
    assert (parsed.model, parsed.prompt, parsed.samples, parsed.seed, parsed.visitor) == (DEFAULT, "Once", 1, 0, "")


def test_the_endpoints_take_the_same_forms_of_the_same_argument():
    names = {"temperature", "max_new_tokens", "seed", "model", "prompt", "text"}
    for name in names:
        fields = [kind.model_fields[name] for kind in GOOD if name in kind.model_fields]
        assert len({str(field.metadata) for field in fields}) <= 2  # a text to evaluate may be longer


def test_checked_arguments_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        GenerateArguments.parse({}).seed = 5


def test_the_function_that_gradio_sees_has_the_fields_and_their_defaults():
    signature = inspect.signature(endpoints.reconstruct)
    assert list(signature.parameters) == ["text", "noise", "seed", "model", "visitor"]
    assert signature.parameters["noise"].default == 0.0
    assert signature.parameters["visitor"].annotation is gr.Request
    assert inspect.isgeneratorfunction(endpoints.generate) and not inspect.isgeneratorfunction(endpoints.reconstruct)


def test_the_visitor_is_the_session_of_the_request():
    @validated(GenerateArguments, "prompt")
    def who(arguments):
        return arguments.visitor, arguments.prompt

    assert who("Once", gr.Request(session_hash="abc")) == ("abc", "Once")
    assert who() == ("", "") and who("Once", None) == ("", "Once")


SERVER_FUNCTIONS = (draw_pool, draw_cloud, reconstruct.walk, find_nearest, place_chunks)


@pytest.mark.parametrize("function", SERVER_FUNCTIONS, ids=lambda function: function.__name__)
@pytest.mark.parametrize(
    "message",
    [
        *ODD,
        {"model": DEFAULT, "prompt": "x", "prefix_chunks": [[2**70] * 4]},
        {"model": DEFAULT, "prompt": "x", "prefix_chunks": [[-1] * 4]},
        {"model": DEFAULT, "prompt": "x", "prefix_chunks": [[1]]},
        {"model": "story-ar", "prompt": "x", "prefix_chunks": []},
        {"model": "story-ar", "mean": [0.0] * 64, "direction": 0},
        {"model": DEFAULT, "chunks": [[-1] * 4]},
        {"model": DEFAULT, "chunks": [["x"] * 4], "index": 2**70},
        {"model": DEFAULT, "mean": [1e308] * 64, "direction": 0},
        {"model": DEFAULT, "mean": [0.0] * 64, "direction": 99},
        {"model": DEFAULT, "mean": [0.0] * 64, "target": [0.0]},
    ],
    ids=lambda message: str(message)[:20].encode("ascii", "replace").decode(),
)
def test_a_server_function_answers_a_forged_message_with_one_sentence(function, message, caplog):
    answer = function(message)
    assert set(answer) == {"error"} and is_sentence(answer["error"]) and not caplog.records
    json.dumps(answer).encode()


EVENTS = {
    generate._run: [DEFAULT, "Once", 1.0, 4, 0, "auto", 8, 1],
    generate._run_random: [DEFAULT, 1.0, 4, 0, "auto", 8, 1],
    generate._run_example: [DEFAULT, 0, 1.0, 4, 0, "auto", 8, 1],
    generate._branch: [1.0, 4, 0, "auto", 8, None],
    reconstruct._reconstruct: [DEFAULT, "Once", 0.0, 0],
    vectors._fit: [
        DEFAULT,
        [{"run_id": "a", "prompt": "", "chunks": [[1]], "vectors": [[0.0]]}],
        15,
        0.1,
        "euclidean",
        2,
        0,
    ],
    race._run: [DEFAULT, "Once", 1.0, 4, 0],
    evaluate._measure: ["Once", [DEFAULT], 0],
}


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_event_of_the_page_answers_odd_values_with_one_sentence(event):
    for position, good in enumerate(EVENTS[event]):
        for value in ([], {}, "\ud800", 10**400, math.nan, ["x"], {"a": 1}, "x" * 30_000):
            values = [*EVENTS[event][:position], value, *EVENTS[event][position + 1 :]]
            with pytest.raises(CalmError) as raised:
                list(event(*values))
            assert is_sentence(str(raised.value)), (position, good, value)
