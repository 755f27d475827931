"""Links that repeat a run."""

import pytest

import calm
from app import run_links
from app.registry import loaded
from app.requests import StepArguments
from app.tabs import generate as generate_tab
from calm import CalmError

PROMPT = "Once upon a time"
SETTINGS = {"temperature": "1.3", "max_new_tokens": "32", "seed": "0", "sampler": "pooled", "pool_size": "60"}
LINK = {"model": "", "prompt": PROMPT, "options": SETTINGS, "branches": [], "samples": 1}


@pytest.fixture(scope="module")
def model():
    return loaded()


def final(request):
    *_, progress = generate_tab.repeat(run_links.RepeatArguments.parse({"link": request}))
    return progress.results[0]


def ids(run):
    return [step["token_ids"] for step in run["steps"]]


def test_a_link_repeats_its_run(model):
    run = final(LINK)
    assert run["model"] == model.name and run["finished"]
    assert ids(run) == [step.token_ids for step in calm.generate(model.lm, PROMPT, 1.3, 32, 60, "pooled", 0)]
    assert run["origin"] == {"model": model.name, "prompt": PROMPT, "options": run["options"], "branches": []}


def test_a_link_repeats_samples_side_by_side(model):
    run = final({**LINK, "samples": 3})
    assert [member["options"]["seed"] for member in [run, *run["samples"]]] == [0, 1, 2]


def other_candidate(run, start):
    """A step from ``start`` on, and a candidate of it that was not chosen."""
    return next(
        (step["index"], candidate["token_ids"])
        for step in run["steps"][start:]
        for candidate in step["candidates"]
        if not candidate["chosen"]
    )


def test_a_link_repeats_each_branch_with_its_own_settings(model):
    first = final(LINK)
    points = [{"step_index": 0, "token_ids": None, "options": {**first["options"], "temperature": 1.0}}]
    points[0]["step_index"], points[0]["token_ids"] = other_candidate(first, 1)
    branch = final({**LINK, "branches": points})
    assert ids(branch)[points[0]["step_index"]] == points[0]["token_ids"]
    assert branch["options"]["temperature"] == 1.0 and branch["parent"]["step_index"] == points[0]["step_index"]
    index, token_ids = other_candidate(branch, points[0]["step_index"] + 1)
    points = [*points, {"step_index": index, "token_ids": token_ids, "options": first["options"]}]
    again = final({**LINK, "branches": points})
    assert again["origin"] == {**first["origin"], "branches": points}
    assert ids(again)[:index] == ids(branch)[:index] and ids(again)[index] == token_ids
    assert ids(final({**LINK, **again["origin"]})) == ids(again)


def test_a_branch_drops_the_branches_behind_it(model):
    first = final(LINK)
    later, earlier = (
        {"step_index": i, "token_ids": t, "options": first["options"]}
        for i, t in (other_candidate(first, 3), other_candidate(first, 0))
    )
    assert earlier["step_index"] < later["step_index"]
    branch = final({**LINK, "branches": [later]})
    run = final({**LINK, "branches": [later, earlier]})
    assert branch["origin"]["branches"] == [later] and run["origin"]["branches"] == [earlier]


def test_a_candidate_of_fresh_samples_is_found_again(model):
    link = {**LINK, "options": {**SETTINGS, "pool_size": "2"}}
    first = final(link)
    at, step = max(enumerate(first["steps"]), key=lambda numbered: len(numbered[1]["candidates"]))
    known = [candidate["token_ids"] for candidate in step["candidates"]]
    arguments = {"model": model.name, "prompt": PROMPT, "prefix_chunks": ids(first)[:at], "chosen": ids(first)[at]}
    fresh = run_links.pool_at(StepArguments.parse(arguments))
    token_ids = next(c["token_ids"] for c in fresh["candidates"] if c["token_ids"] not in known)
    point = {"step_index": at, "token_ids": token_ids, "options": first["options"]}
    assert ids(final({**link, "branches": [point]}))[at] == token_ids


@pytest.mark.parametrize(
    "change",
    [
        {"options": None},
        {"branches": 3},
        {"branches": [{}]},
        {"branches": [{"step_index": -1, "token_ids": [1, 2, 3, 4], "options": {}}]},
        {"branches": [{"step_index": 0, "token_ids": ["x"], "options": {}}]},
    ],
)
def test_a_link_that_describes_no_run_is_one_sentence(change):
    with pytest.raises(CalmError, match=r"^This link does not describe a run\.$"):
        run_links.RepeatArguments.parse({"link": {**LINK, **change}})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"options": {"temperature": 5}}, "temperature must be"),
        ({"options": {"temperature": "hot"}}, "The temperature must be a number, not 'hot'"),
        ({"samples": "many"}, "Samples must be a whole number, not 'many'"),
        ({"options": {"max_new_tokens": -5}}, "Max new tokens must be"),
        ({"options": {"sampler": "foo"}}, "sampler must be"),
        ({"options": {"seed": 1.5}}, "Random seed must be a whole number"),
        ({"model": "other"}, "choose one of story-k4"),
        ({"branches": [{"step_index": 99, "token_ids": [1, 2, 3, 4], "options": {}}]}, "step 100 cannot be repeated"),
        ({"branches": [{"step_index": 0, "token_ids": [1], "options": {}}]}, "step 1 cannot be repeated"),
        ({"branches": [{"step_index": 0, "token_ids": [1], "options": {}}] * 21}, "at most 20 branches"),
    ],
)
def test_a_link_that_cannot_be_repeated_is_one_sentence(change, sentence):
    with pytest.raises(CalmError, match=sentence):
        final({**LINK, **change})
