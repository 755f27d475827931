"""The exact distribution of tokens and chunks, against the words' probabilities and the generator."""

import math
import random
from collections import Counter

import pytest

from calm import storyland
from calm.hub.loading import load_tokenizer
from calm.storyland.tokens import TokenLanguage, inverse_transform


@pytest.fixture(scope="module")
def language() -> TokenLanguage:
    return TokenLanguage(load_tokenizer("story-k4"))


def test_the_next_chunks_have_the_probability_of_their_tokens(language):
    story = next(storyland.stories("tests", 1))
    tokens = [token for _, token in language.contexts(story)]
    contexts = [context for context, _ in language.contexts(story)]
    assert tokens[-1] == language.eos and tokens[:-1] == language.tokenizer(story)["input_ids"]
    for size in (1, 4):
        for position in range(0, len(tokens) - size, 7):
            chunks = language.chunks(contexts[position], size, floor=0.0 if size == 1 else 1e-6)
            assert sum(probability for probability, _ in chunks.values()) == pytest.approx(1, abs=0.01)
            probability, after = chunks[tuple(tokens[position : position + size])]
            expected = contexts[position + size].probability / contexts[position].probability
            assert probability == pytest.approx(expected, rel=1e-3)
            assert after.probability == pytest.approx(contexts[position + size].probability, rel=1e-3)


def test_the_next_story_follows_the_end_of_a_story(language):
    *_, (context, token) = language.contexts(next(storyland.stories("tests", 1)))
    after = language.after(context, token)
    first = language.chunks(language.start(), 2)
    following = language.chunks(after, 2)
    assert {chunk: p for chunk, (p, _) in following.items()} == pytest.approx({c: p for c, (p, _) in first.items()})


def test_other_text_is_refused(language):
    with pytest.raises(ValueError, match="does not continue with"):
        list(language.contexts("Call me Ishmael."))


def test_first_chunks_are_as_frequent_as_they_are_likely(language):
    count = 6000
    likely = {chunk: p for chunk, (p, _) in language.chunks(language.start(), 6).items()}
    stories = storyland.corpus(count, 40_000_000)
    drawn = Counter(tuple(language.tokenizer(story)["input_ids"][:6]) for story in stories)
    for chunk, seen in drawn.most_common(10):
        assert seen == pytest.approx(count * likely[chunk], abs=4.5 * math.sqrt(count * likely[chunk]))


def test_samples_are_stories_and_a_low_temperature_prefers_the_likely(language):
    stories = [language.sample(4, 0.5, seed) for seed in range(6)]
    assert stories[0] == language.sample(4, 0.5, 0) and len(set(stories)) == 6
    found = storyland.check("\n\n".join(stories))
    assert (found.well_formed, found.consistent, found.stories) == (1.0, 1.0, 6)
    chunks = language.chunks(language.start(), 6)
    assert language.sample(6, 0.001, 0).startswith(
        tuple(
            language.tokenizer.decode(c) for c, (p, _) in chunks.items() if p > 0.9 * max(q for q, _ in chunks.values())
        )
    )


def test_drawn_chunks_are_as_frequent_as_they_are_likely(language):
    size, count, eos = 4, 10, language.eos
    one, two = storyland.stories("tests", 2)
    told = [language.tokenizer(story)["input_ids"] for story in (one, two)]
    tokens = [eos] * 3 + told[0] + [eos] + told[1][:30]
    drawn = language.draw(tokens, size, count, random.Random(0))
    assert len(drawn) == len(tokens) // size - 1 and any(len(set(chunks)) > 3 for chunks in drawn)
    context = language.after(language.start(), tokens[3])
    for number, chunks in enumerate(drawn, 1):
        likely = {chunk: p for chunk, (p, _) in language.chunks(context, size).items()}
        assert len(chunks) == count and set(chunks) <= likely.keys()
        assert all(abs(chunks.count(chunk) - count * p) < 1.01 for chunk, p in likely.items())
        for token in tokens[number * size : number * size + size]:
            context = language.after(context, token)
    firsts = [language.draw(tokens[: 2 * size], size, 3, random.Random(seed))[0] for seed in range(300)]
    shares = Counter(chunks[0] for chunks in firsts)  # the order is random, so the first alone is a fair draw
    likely = {c: p for c, (p, _) in language.chunks(language.after(language.start(), tokens[3]), size).items()}
    assert all(abs(shares[chunk] / 300 - p) < 0.12 for chunk, p in likely.items())


def test_padding_behind_a_story_is_its_own_continuation(language):
    story = language.tokenizer(next(storyland.stories("tests", 1)))["input_ids"]
    tokens = [language.eos] + story + [language.eos] * 13
    drawn = language.draw(tokens, 4, 2, random.Random(0))
    assert drawn[-1] == drawn[-2] == [(language.eos,) * 4] * 2
    with pytest.raises(ValueError, match="does not continue"):
        language.draw(
            [language.eos, *language.tokenizer("It was the best of times.")["input_ids"]], 4, 2, random.Random(0)
        )


def test_uniform_numbers_choose_chunks_token_by_token():
    """The i-th number decides the i-th open choice, among the tokens in the order of their ids."""
    chunks = {(5, 1, 8): 0.1, (5, 1, 2): 0.3, (4, 9, 9): 0.6}
    numbers = [(a / 20 + 0.025, b / 20 + 0.025, c) for a in range(20) for b in range(20) for c in (0.0, 0.99)]
    chosen = Counter(inverse_transform(chunks, one) for one in numbers)
    assert {chunk: count / len(numbers) for chunk, count in chosen.items()} == pytest.approx(chunks)
    assert inverse_transform(chunks, (0.59, 0.99, 0.0)) == (4, 9, 9)  # 4 comes before 5; its chunk has no other choice
    assert inverse_transform(chunks, (0.61, 0.74, 0.99)) == (5, 1, 2)  # the second number decides the third token
    assert inverse_transform(chunks, (0.61, 0.76, 0.0)) == (5, 1, 8)
    assert inverse_transform({(7, 7): 0.2}, (0.5, 0.5)) == (7, 7)


def test_chunks_come_with_the_numbers_that_chose_them(language):
    story = language.tokenizer(next(storyland.stories("tests", 1)))["input_ids"]
    tokens = [language.eos, *story[:19]]
    drawn = language.draw_by_choices(tokens, 4, 50, random.Random(0))
    context = language.after(language.after(language.after(language.start(), tokens[1]), tokens[2]), tokens[3])
    assert len(drawn) == 4 and all(len(choices) == 4 for _, choices in drawn[0])
    for number, position in enumerate(drawn, 1):
        likely = {chunk: p for chunk, (p, _) in language.chunks(context, 4).items()}
        assert all(chunk == inverse_transform(likely, choices) for chunk, choices in position)
        for token in tokens[number * 4 : number * 4 + 4]:
            context = language.after(context, token)
    assert len({chunk for position in drawn for chunk, _ in position}) > 4
