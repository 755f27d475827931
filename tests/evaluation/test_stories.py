from itertools import islice

import pytest

from calm import storyland
from calm.evaluation import reports


def test_plots_and_heroes_are_those_of_stories_without_a_prompt(monkeypatch):
    """Every second story has a prompt and does not count. A text without a plot counts as a story and as no plot."""
    drawn = list(islice(storyland.stories("validation", 400), 400))
    plain = {storyland.check(story).plots[0]: story for story in drawn if "\n" not in story}
    prompted = [story for story in drawn if "\n" in story]
    (first, one), (_, other) = islice(plain.items(), 2)
    texts = [one, prompted[0], one, prompted[1], other, prompted[2], "Nothing of the kind.", prompted[3]]
    monkeypatch.setattr(reports, "generate_stories", lambda lm, count, temperature, seed: texts)
    figures = reports.story_figures(None, len(texts), 0.5)
    heroes = {storyland.check(story).heroes[0] for story in (one, other)}
    assert first and figures["unprompted"] == {
        "stories": 4,
        "plots": 2,
        "heroes": len(heroes),
        "commonest_plot": pytest.approx(0.5),
    }
    assert figures["prompt_followed"] == 1 and figures["well_formed"] < 1
    assert figures["samples"] == texts[:2]
