"""The exact language and the generator are two tellings of the same rules; each test holds one against the other."""

import math
import re
from collections import Counter

import pytest

from calm import storyland
from calm.storyland.exact import Telling, beginning, next_words

WORD = re.compile(r" ?[^\W\d_]+| ?[^\w\s]+|\s")


def first_word(text: str) -> str | None:
    word = WORD.match(text)
    return word[0] if word and word.end() < len(text) else None


def weight(tellings: list[Telling]) -> float:
    return sum(telling.weight for telling in tellings)


def read(words: list[str]):
    """Of each word of a beginning how likely the language says every word there, and the word it is."""
    tellings = [beginning()]
    for word in words:
        ways = next_words(tellings, first_word)
        total = weight(tellings)
        yield {said: weight(further) / total for said, further in ways.items()}, word
        tellings = ways[word]


def whole(story: str):
    """The same of a story and its end."""
    return read([*WORD.findall(story), ""])


def test_every_story_can_be_told_and_what_may_follow_adds_up():
    for story in storyland.corpus(12, storyland.HELD_OUT):
        for likely, word in whole(story):
            assert sum(likely.values()) == pytest.approx(1)
            assert likely[word] > 0
        assert word == ""


def test_what_is_likely_is_what_is_told():
    """Of a language that is known, a word is hit as often as two of its draws are the same: where p(y) and the sum of
    p^2 differ on average, p is not how the stories are told."""
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
    floor = 0.01
    every, some = (next_words([beginning()], first_word, least) for least in (0.0, floor))
    assert 0 < len(some) < len(every)
    assert {word: weight(every[word]) for word in some} == pytest.approx(
        {word: weight(t) for word, t in some.items()}, abs=floor
    )
