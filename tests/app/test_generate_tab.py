import pytest

import calm
from app import render
from app.registry import resident
from app.run import SHOWN_CANDIDATES
from app.tabs import generate as generate_tab
from app.tabs import race as race_tab
from calm import CalmError


@pytest.fixture(scope="module")
def model():
    return resident()


def test_a_run_grows_step_by_step(model):
    runs = list(generate_tab.stream(model, "Once upon a time", 0.5, 24, 0, "auto", 100))
    assert len(runs) <= 6
    value = runs[-1][0].value
    assert "".join(step["text"] for step in value["steps"]) == "".join(
        step.text for step in calm.generate(model.lm, "Once upon a time", 0.5, 24, 100)
    )
    for step in value["steps"]:
        assert len(step["plane"]) == 2 and len(step["space"]) == 3
        assert sum(candidate["chosen"] for candidate in step["candidates"]) == 1
        assert len(step["candidates"]) <= SHOWN_CANDIDATES
    assert [chunk["text"] for chunk in value["prompt_chunks"]] == ["Once upon a time"]


def test_the_summary_tells_steps_and_what_they_replace(model):
    *_, (run,) = generate_tab.stream(model, "Once", 1.0, 16, 0, "auto", 100)
    line = render.summary([run])
    steps = len(run.value["steps"])
    assert f"<strong>{steps}</strong> steps" in line
    assert f"would have taken <strong>{4 * steps}</strong> steps" in line


BRANCH = {"length": 24, "seed": 0, "sampler": "auto", "pool_size": 100}


def branch_of(value, index, choice):
    step = value["steps"][index]
    pool = {"candidates": step["candidates"], "others": step["others"]}
    vectors = [[0.0]] * (index + 1)
    return {
        "run": value["run"],
        "steps": value["steps"][: index + 1],
        "vectors": vectors,
        "pool": pool,
        "choice": choice,
    }


def test_a_branch_goes_on_from_another_candidate(model):
    *_, (first,) = generate_tab.stream(model, "Once upon a time", 1.3, 48, 0, "pooled", 100)
    value = first.value
    index = next(i for i, step in enumerate(value["steps"]) if i and len(step["candidates"]) > 1)
    other = next(i for i, c in enumerate(value["steps"][index]["candidates"]) if not c["chosen"])
    branch = branch_of(value, index, other)
    *_, (found,) = generate_tab.stream(model, "Once upon a time", 0.5, **BRANCH, branch=branch)
    steps = found.value["steps"]
    assert found.value["parent"] == {"run": value["run"], "index": index} and found.value["run"] != value["run"]
    assert steps[:index] == value["steps"][:index]
    taken = value["steps"][index]["candidates"][other]
    assert steps[index]["ids"] == taken["ids"] and steps[index]["by_hand"] and len(steps[index]["plane"]) == 2
    assert [c["chosen"] for c in steps[index]["candidates"]].index(True) == other
    assert [step["index"] for step in steps] == list(range(len(steps)))
    begun = [step["ids"] for step in steps[: index + 1]]
    ended = steps[index]["end"]
    told = [] if ended else calm.generate(model.lm, "Once upon a time", 0.5, 24, 100, prefix_chunks=begun)
    assert [step["ids"] for step in steps[index + 1 :]] == [step.token_ids for step in told]


@pytest.mark.parametrize("change", [{"choice": 99}, {"steps": []}, {"pool": None}, {"steps": [{"index": 0}] * 2}])
def test_a_branch_that_leaves_nothing_is_one_sentence(model, change):
    *_, (first,) = generate_tab.stream(model, "Once upon a time", 1.0, 8, 0, "auto", 100)
    branch = {**branch_of(first.value, 1, 0), **change}
    with pytest.raises(CalmError, match="only go on from a step of its own"):
        next(generate_tab.stream(model, "Once upon a time", 0.5, **BRANCH, branch=branch))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"prompt": "x" * 5000}, "5,000 characters"),
        ({"temperature": None}, "temperature must be"),
        ({"temperature": 0}, "temperature must be"),
        ({"length": 0}, "Length must be"),
        ({"length": None}, "Length must be a whole number"),
        ({"seed": 1.5}, "Seed must be a whole number"),
        ({"seed": "one"}, "Seed must be a whole number"),
        ({"seed": None}, "Seed must be a whole number"),
        ({"pool_size": 0}, "pool_size must be"),
        ({"sampler": "exact", "temperature": 1.4}, "at most 1"),
    ],
)
def test_bad_input_is_one_sentence(model, change, sentence):
    good = {"prompt": "x", "temperature": 0.5, "length": 8, "seed": 0, "sampler": "auto", "pool_size": 10}
    with pytest.raises(CalmError, match=sentence):
        next(generate_tab.stream(model, **{**good, **change}))


def test_errors_are_escaped():
    assert "<script>" not in render.error("<script>alert(1)</script>")


def test_the_reconstruction_marks_tokens_that_differ(model):
    text = "Mia lost her kite near the old mill."
    found = calm.reconstruct(model.lm, text, noise=2.5, seed=1)
    value = render.reconstruction(model, found)
    assert "".join(chunk["text"] for chunk in value["chunks"]) == text
    wrong = [token for chunk in value["chunks"] for token in chunk["tokens"] if not token[2]]
    assert wrong and found.token_accuracy < 1
    assert f"{found.token_accuracy:.2%}" in render.reconstruction_summary(found, 2.5)


def test_the_examples_before_the_first_click_are_what_the_model_says_today():
    from app.build import PROMPT, SETTINGS

    value, race = generate_tab.example(), race_tab.example()
    assert "An example" in value["told"] and "An example" in race["told"]
    steps = list(calm.generate(calm.load("story-k4", device="cpu"), PROMPT, **SETTINGS))
    written = [step.text for step in steps][:5]
    assert [step["text"] for step in value["steps"]][:5] == written
    first, second = race["racers"]
    assert first["pieces"][:5] == written and (first["chunk_size"], second["chunk_size"]) == (4, 1)
    assert all(0 < racer["first"] <= racer["times"][-1] for racer in race["racers"])
