"""The Generate tab, and the payloads of runs."""

import numpy as np
import pytest

import calm
from app.limits import MAX_SAMPLES, SHOWN_CANDIDATES
from app.payloads.runs import Run
from app.registry import loaded
from app.requests import GenerateArguments
from app.tabs import generate as generate_tab
from app.tabs import race as race_tab
from calm import CalmError

from .arguments import run_arguments

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def model():
    return loaded()


def test_a_run_grows_step_by_step(model):
    runs = list(generate_tab.stream(model, run_arguments(PROMPT, 0.5, 24, 0)))
    assert len(runs) <= 6
    payload = runs[-1][0].payload
    assert "".join(step["text"] for step in payload["steps"]) == "".join(
        step.text for step in calm.generate(model.lm, PROMPT, 0.5, 24, 100)
    )
    for step in payload["steps"]:
        assert len(step["predicted"]["plane"]) == 2 and len(step["predicted"]["space"]) == 3
        assert sum(candidate["chosen"] for candidate in step["candidates"]) == 1
        assert len(step["candidates"]) <= SHOWN_CANDIDATES
    assert [chunk["text"] for chunk in payload["prompt_chunks"]] == [PROMPT]


def test_the_summary_names_the_steps_and_those_of_a_token_by_token_model(model):
    *_, (run,) = generate_tab.stream(model, run_arguments("Once", 1.0, 16, 0))
    line = generate_tab.summary([run])
    steps = len(run.payload["steps"])
    assert f"<strong>{steps}</strong> steps" in line
    assert f"a token-by-token model needs <strong>{4 * steps}</strong> steps" in line


def test_samples_generated_together_equal_samples_generated_alone(model):
    *_, together = generate_tab.stream(model, run_arguments(PROMPT, 0.9, 32, 5, samples=3))
    for i, run in enumerate(together):
        *_, (alone,) = generate_tab.stream(model, run_arguments(PROMPT, 0.9, 32, 5 + i))
        assert [s["token_ids"] for s in run.payload["steps"]] == [s["token_ids"] for s in alone.payload["steps"]]
        assert run.payload["options"]["seed"] == 5 + i
    assert len({run.payload["run_id"] for run in together}) == 3


def test_steps_that_share_a_character_show_its_parts(model):
    lm = model.lm
    ids = lm.tokenize("Hi 🙂!")
    chunks = [ids[:4], ids[4:]]
    chunks[1] += lm.tokenize(" a" * 8)[: 4 - len(chunks[1])]
    run = Run(model, "🙂 Hi 🙂!", calm.GenerationOptions())
    for index, (chunk, text) in enumerate(zip(chunks, ("Hi ", "🙂! a"))):
        candidates = [calm.Candidate(chunk, lm.chunk_text(tuple(chunk)), 1, 1.0)]
        run.add(calm.Step(index, chunk, text, np.zeros(lm.calm.config.latent_size, np.float32), candidates, 1, 0.1))
    first, second = run.payload["steps"]
    assert [first["text"], second["text"]] == ["Hi ", "🙂! a"]
    assert first["candidates"][0]["text"] == "Hi ⟨F0 9F 99⟩" and second["candidates"][0]["text"].startswith("🙂 (2/2)!")
    assert first["tokens"][-1] == "⟨F0 9F 99⟩" and second["tokens"][:2] == ["🙂 (2/2)", "!"]
    shown = "".join(chunk["text"] for chunk in run.payload["prompt_chunks"])
    assert "🙂" in shown and "\ufffd" not in shown


def test_the_distance_of_a_step_is_to_the_encoding_of_its_chunk(model):
    *_, (run,) = generate_tab.stream(model, run_arguments(PROMPT, 1.0, 16, 0))
    steps = list(calm.generate(model.lm, PROMPT, 1.0, 16, 100))
    for shown, step, vector in zip(run.payload["steps"], steps, run.vectors, strict=True):
        mean = calm.reconstruct(model.lm, step.text).chunks[0].mean
        assert shown["distance"] == pytest.approx(float(np.linalg.norm(step.vector - mean)), abs=1e-3)
        assert vector == pytest.approx(step.vector, abs=1e-3)
        assert len(shown["encoded"]["plane"]) == 2 and len(shown["predicted"]["principal"]) == 3


BRANCH = {"max_new_tokens": 24, "seed": 0, "sampler": "auto", "pool_size": 100}


def branch_request(payload, index, choice):
    step = payload["steps"][index]
    return {
        "model": payload["model"],
        "prompt": payload["prompt"],
        "run_id": payload["run_id"],
        "origin": payload["origin"],
        "steps": payload["steps"][: index + 1],
        "vectors": [[0.0]] * (index + 1),
        "pool": {"candidates": step["candidates"], "other_counts": step["other_counts"]},
        "choice": choice,
    }


def test_a_branch_continues_from_another_candidate(model):
    *_, (first,) = generate_tab.stream(model, run_arguments(PROMPT, 1.3, 48, 0, sampler="pooled"))
    payload = first.payload
    index = next(i for i, step in enumerate(payload["steps"]) if i and len(step["candidates"]) > 1)
    other = next(i for i, c in enumerate(payload["steps"][index]["candidates"]) if not c["chosen"])
    request = branch_request(payload, index, other)
    *_, (run,) = generate_tab.stream(model, run_arguments(PROMPT, 0.5, **BRANCH, branch=request))
    steps = run.payload["steps"]
    assert run.payload["parent"] == {"run_id": payload["run_id"], "step_index": index}
    assert run.payload["run_id"] != payload["run_id"]
    assert steps[:index] == payload["steps"][:index]
    taken = payload["steps"][index]["candidates"][other]
    assert steps[index]["token_ids"] == taken["token_ids"] and steps[index]["chosen_by_hand"]
    assert len(steps[index]["predicted"]["plane"]) == 2
    assert [c["chosen"] for c in steps[index]["candidates"]].index(True) == other
    assert [step["index"] for step in steps] == list(range(len(steps)))
    prefix = [step["token_ids"] for step in steps[: index + 1]]
    ended = steps[index]["ended"]
    rest = [] if ended else calm.generate(model.lm, PROMPT, 0.5, 24, 100, prefix_chunks=prefix)
    assert [step["token_ids"] for step in steps[index + 1 :]] == [step.token_ids for step in rest]


def test_a_branch_at_the_first_step_has_a_summary_before_its_second(model):
    *_, (first,) = generate_tab.stream(model, run_arguments(PROMPT, 1.3, 8, 0, sampler="pooled"))
    request = branch_request(first.payload, 0, 1)
    runs = next(generate_tab.stream(model, run_arguments(PROMPT, 0.5, **BRANCH, branch=request)))
    assert "<strong>1</strong> step ·" in generate_tab.summary(runs, running=True)


@pytest.mark.parametrize("change", [{"choice": 99}, {"steps": []}, {"pool": None}, {"steps": [{"index": 0}] * 2}])
def test_a_branch_without_a_step_is_reported_in_one_sentence(model, change):
    *_, (first,) = generate_tab.stream(model, run_arguments(PROMPT, 1.0, 8, 0))
    request = {**branch_request(first.payload, 1, 0), **change}
    with pytest.raises(CalmError, match="must continue from a step of an existing run"):
        next(generate_tab.stream(model, run_arguments(PROMPT, 0.5, **BRANCH, branch=request)))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": "x" * 5000}, "5,000 characters"),
        ({"temperature": None}, "temperature must be"),
        ({"temperature": 0}, "temperature must be"),
        ({"max_new_tokens": 0}, "Max new tokens must be"),
        ({"max_new_tokens": None}, "Max new tokens must be a whole number"),
        ({"max_new_tokens": float("inf")}, "Max new tokens must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"seed": "one"}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"pool_size": 0}, "pool_size must be"),
        ({"samples": 0}, f"Samples must be between 1 and {MAX_SAMPLES}"),
        ({"sampler": "exact", "temperature": 1.4}, "at most 1"),
    ],
)
def test_bad_input_is_reported_in_one_sentence(model, change, sentence):
    good = {"prompt": "x", "temperature": 0.5, "max_new_tokens": 8, "seed": 0, "sampler": "auto", "pool_size": 10}
    with pytest.raises(CalmError, match=sentence):
        next(generate_tab.stream(model, run_arguments(**{**good, **change})))


def test_the_name_of_a_model_is_escaped(monkeypatch):
    name = "<img src=x onerror=alert(1)>"
    monkeypatch.setattr(generate_tab, "loading_status", lambda name: iter([f"{name} is being loaded …"]))
    progress = next(generate_tab._show(GenerateArguments.model_construct(model=name)))
    assert "<img" not in progress.status and "&lt;img" in progress.status


def test_the_stored_examples_equal_the_output_of_the_models():
    from app.build import PROMPT, SETTINGS

    run, example = generate_tab.example(), race_tab.example()
    assert "An example" in run["status"] and "An example" in example["status"]
    steps = list(calm.generate(calm.load("story-k4", device="cpu"), PROMPT, **SETTINGS))
    texts = [step.text for step in steps][:5]
    assert [step["text"] for step in run["steps"]][:5] == texts
    first, second = example["race"]["racers"]
    assert first["texts"][:5] == texts and (first["chunk_size"], second["chunk_size"]) == (4, 1)
    assert all(0 < racer["first_text_seconds"] <= racer["seconds"][-1] for racer in example["race"]["racers"])


def test_a_prompt_that_ends_with_a_space_is_kept_and_the_status_says_so():
    for prompt, noted in (("Once ", True), ("Once", False)):
        *_, last = generate_tab._run("story-k4", prompt, 1.0, 4, 0, "auto", 8, 1)
        assert (generate_tab.TRAILING_SPACE in last.status) is noted
        assert last.results[0]["prompt"] == prompt
