"""Prompts in the language of the bundled models."""

import random
from itertools import zip_longest

import calm
from app import story_prompts
from app.registry import DEFAULT


def test_the_examples_have_different_plots():
    *prompts, beginning = story_prompts.example_prompts(DEFAULT)
    assert len(prompts) >= 6 and len(set(prompts)) == len(prompts) and beginning


def test_a_random_prompt_is_storylands_and_varies(monkeypatch):
    monkeypatch.setattr(story_prompts, "random", random.Random(0))
    prompts = [story_prompts.random_prompt(DEFAULT) for _ in range(20)]
    assert len(set(prompts)) == len(prompts)
    assert all(calm.storyland.vocabulary_share(prompt) == 1 for prompt in prompts)
    assert story_prompts.random_prompt("someone/english-model") in story_prompts.ENGLISH


def test_prompts_follow_the_model_but_not_those_that_a_visitor_wrote():
    first, english = "A story about a fox.", story_prompts.ENGLISH
    stories = story_prompts.example_prompts(DEFAULT)
    assert story_prompts.example_prompts("someone/english-model") == list(english)
    assert len(english) == len(stories)
    for prompt, name, suited in (
        (first, "someone/english-model", english[0]),
        (stories[2], "someone/english-model", english[0]),
        (english[1], DEFAULT, stories[0]),
        (first, DEFAULT, first),
        ("Once upon a time", "someone/english-model", "Once upon a time"),
        ("my own", "someone/english-model", "my own"),
        ("my own", DEFAULT, "my own"),
    ):
        assert story_prompts.suited_prompt(name, prompt, first) == suited


def test_prompts_are_suggested_where_the_model_does_not_know_the_language():
    english = "What is the capital of France?"
    suggested = story_prompts.suggested_prompts(DEFAULT, english)
    assert len(suggested) == 2 and all(story_prompts.suggested_prompts(DEFAULT, prompt) == [] for prompt in suggested)
    assert story_prompts.suggested_prompts("someone/english-model", english) == []
    for prompt in ("", "Once upon a time", *story_prompts.example_prompts(DEFAULT)):
        assert story_prompts.suggested_prompts(DEFAULT, prompt) == []


def test_every_form_of_a_story_prompt_ends_its_line():
    prompts = [calm.storyland.prompt(seed) for seed in range(50)]
    assert [story_prompts.with_line_end("story-k4", prompt.strip()) for prompt in prompts] == prompts
    with_first_sentence = prompts[0] + "Once upon a time there was a fox."
    for name, text in (
        ("story-k4", "Once upon a time there was a fox."),
        ("story-k4", with_first_sentence),
        ("other", prompts[0].strip()),
    ):
        assert story_prompts.with_line_end(name, text) == text


def test_twenty_surprises_have_many_plots_and_heroes(story, monkeypatch):
    monkeypatch.setattr(story_prompts, "random", random.Random(0))
    prompts = [story_prompts.with_line_end(DEFAULT, story_prompts.random_prompt(DEFAULT)) for _ in range(20)]
    runs = [calm.generate(story, prompt, 0.5, 96, seed=seed) for seed, prompt in enumerate(prompts)]
    steps = zip_longest(*runs)  # together, so that they share the engine's steps
    texts = ["".join(step.text for step in run if step) for run in zip(*steps)]
    results = [calm.storyland.check(prompt + text) for prompt, text in zip(prompts, texts)]
    plots = {plot for result in results for plot in result.plots if plot}
    heroes = {hero for result in results for hero in result.heroes if all(hero)}
    assert len(plots) >= 12 and len(heroes) >= 15
