"""The exact probabilities and the generator implement the same rules; each test compares one with the other."""

import math
import random
import re
from collections import Counter
from itertools import combinations

import pytest

from calm import storyland
from calm.storyland.exact import _words, beginnings, next_words, weight
from calm.storyland.generate import Memory
from calm.storyland.grammar import PRONOUNS, ROLES, load

WORD = re.compile(r" ?[^\W\d_]+| ?[^\w\s]+|\s")


def first_word(text: str) -> str | None:
    word = WORD.match(text)
    return word[0] if word and word.end() < len(text) else None


def read(words: list[str]):
    """For each word of a text: the probability of every possible word at this position, and the actual word."""
    tellings = list(beginnings())
    for word in words:
        ways = next_words(tellings, first_word)
        total = weight(tellings)
        yield {said: weight(further) / total for said, further in ways.items()}, word
        tellings = ways[word]


def whole(story: str):
    """The same for a whole story and its end."""
    return read([*WORD.findall(story), ""])


def test_every_story_can_be_told_and_what_may_follow_adds_up():
    for story in storyland.stories("validation", 12):
        for likely, word in whole(story):
            assert sum(likely.values()) == pytest.approx(1)
            assert likely[word] > 0
        assert word == ""


def test_what_is_likely_is_what_is_told():
    """The means of p(y) and of the sum of p^2 are equal if p is the distribution of the stories."""
    differences, logarithms = [], []
    for story in storyland.corpus(40, 20_000_000):
        for likely, word in whole(story):
            if max(likely.values()) < 0.999:
                differences.append(likely[word] - sum(p * p for p in likely.values()))
                logarithms.append(math.log(likely[word]) - sum(p * math.log(p) for p in likely.values()))
    assert len(differences) > 1000
    for values in differences, logarithms:
        mean = sum(values) / len(values)
        error = math.sqrt(sum((value - mean) ** 2 for value in values)) / len(values)
        assert abs(mean) < 3 * error


def test_beginnings_are_as_frequent_as_they_are_likely():
    told = 8_000
    counted = Counter(tuple(WORD.findall(story)[:8]) for story in storyland.corpus(told, 30_000_000))
    for words, count in counted.most_common(12):
        share = math.prod(likely[word] for likely, word in read(list(words)))
        assert count == pytest.approx(told * share, abs=4 * math.sqrt(told * share))


def test_what_is_unlikely_can_be_left_out():
    tellings = list(beginnings())
    for word in WORD.findall("Once upon a time, near a forest not far from here, there lived a fox among friends."):
        tellings = next_words(tellings, first_word)[word]
    floor = 0.3 * weight(tellings)
    every, some = (next_words(tellings, first_word, least) for least in (0.0, floor))
    assert 0 < len(some) < len(every)
    assert {word: weight(every[word]) for word in some} == pytest.approx(
        {word: weight(t) for word, t in some.items()}, abs=floor
    )


@pytest.mark.parametrize(
    "slots",
    [
        ("A.trait", "place"),
        ("A", "he"),
        ("a.A.kind", "B.kind", "C.kind"),
        ("B.kind", "A.kind"),
        ("A.home", "B.food"),
        ("fear", "a.light", ":colour"),
    ],
    ids=" ".join,
)
def test_the_words_of_a_story_are_drawn_as_they_are_likely(slots):
    plot = next(plot for plot in load().plots if {"fear", "light"} <= plot.types.keys())
    likely = Counter()
    ways = [((), telling.memory, telling.scale) for telling in beginnings()]
    for slot in slots:
        word_type = plot.types.get(slot.removeprefix("a."), "")
        ways = [
            ((*words, word), after, before * share)
            for words, memory, before in ways
            if before > 1e-4
            for word, after, share in _words(memory, slot, word_type)
        ]
    for words, _, share in ways:
        likely[words] += share
    rng, told = random.Random(0), 30_000
    drawn = Counter()
    for _ in range(told):
        memory = Memory(rng.random, [plot])
        drawn[tuple(memory[slot] for slot in slots)] += 1
    for words, share in likely.most_common(40):
        assert drawn[words] == pytest.approx(told * share, abs=4.5 * math.sqrt(told * share))


def test_the_roles_of_a_story_have_names_of_their_own():
    """A model then need not learn which name is taken."""
    grammar = load()
    for place in grammar.places:
        for gender in PRONOUNS:
            names = [set(grammar.names(gender, place, role)) for role in ROLES]
            assert all(names) and not any(one & other for one, other in combinations(names, 2))
