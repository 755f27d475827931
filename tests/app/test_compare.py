"""One prompt at several temperatures, and with several seeds."""

import pytest

import calm
from app import compute, limits
from app.registry import loaded
from app.tabs import compare, temperature
from calm import CalmError

PROMPT = "Once upon a time"


def final(work, *inputs):
    *_, progress = work(*inputs)
    return progress


def test_each_text_is_what_it_is_alone():
    table = final(compare.compare, "story-k4", PROMPT, 2, 12, 5).results[1]["rows"]
    lm = loaded().lm
    assert [(row["temperature"], row["seed"]) for row in table] == [
        (t, seed) for t in limits.COMPARED_TEMPERATURES for seed in (5, 6)
    ]
    for row in table:
        steps = list(calm.generate(lm, PROMPT, row["temperature"], 12, seed=row["seed"]))
        assert row["text"] == "".join(step.text for step in steps)
        assert (row["steps"], row["draws"]) == (len(steps), sum(step.draws for step in steps))


def test_a_column_shows_well_formed_sentences_and_distinct_texts():
    good, bad = ", near a jungle not far from here, there lived a panda among friends.", " there there was fox a."
    shown = [
        compare.Text(t, seed, text, 8, 8, True)
        for t, texts in zip(limits.COMPARED_TEMPERATURES, ([good, good], [good, bad], [bad, bad], ["<b>", "x"]))
        for seed, text in enumerate(texts)
    ]
    columns = compare.strip(shown, PROMPT, True).split("<section>")[1:]
    for column, shares in zip(
        columns, (("100 %", "1 of 2"), ("50 %", "2 of 2"), ("0 %", "1 of 2"), ("–", "2 of 2")), strict=True
    ):
        for share in shares:
            assert f"<dd>{share}</dd>" in column
    assert "&lt;b&gt;" in columns[3] and "<b>" not in columns[3]
    assert "well-formed" not in compare.strip(shown, PROMPT, False)


def test_a_sweep_has_a_row_for_each_seed():
    progress = final(compare.sweep, "story-k4", PROMPT, 0.9, 3, 12, 7)
    shown, card = progress.results
    assert [row["seed"] for row in card["rows"]] == [7, 8, 9]
    assert list(card["rows"][0]) == ["temperature", "seed", "text", "steps", "draws", "well_formed"]
    assert shown.count("<tr>") == 4 and "3 texts" in progress.status and "distinct texts" in progress.status
    assert card["inputs"]["t"] == 0.9 and card["button"] == "sweep" and card["tab"] == "generate"


def test_a_text_without_a_complete_sentence_has_no_score_in_the_export():
    shown = [
        compare.Text(0.5, 0, " there was a", 1, 1, True),
        compare.Text(0.5, 1, " there there was fox a.", 1, 1, True),
    ]
    assert [row["well_formed"] for row in compare._rows(shown, PROMPT, True)] == [None, 0.0]


def test_rows_come_once_all_texts_are_complete():
    cards = [p.results[1] for p in compare.sweep("story-k4", PROMPT, 0.9, 2, 12, 0) if p.results]
    assert all(not card["rows"] for card in cards[:-1]) and len(cards[-1]["rows"]) == 2


@pytest.mark.parametrize(
    ("seeds", "length", "sentence"),
    [
        (0, 8, "Seeds must be between 1 and"),
        (None, 8, "Seeds must be a whole number"),
        (99, 8, "Seeds must be between 1 and"),
        (2, 0, "Max new tokens must be between 1 and"),
        (2, 999, "Max new tokens must be between 1 and"),
    ],
)
def test_bad_input_is_one_sentence(seeds, length, sentence):
    with pytest.raises(CalmError, match=sentence):
        final(compare.compare, "story-k4", PROMPT, seeds, length, 0)
    with pytest.raises(CalmError, match=sentence):
        final(compare.sweep, "story-k4", PROMPT, 0.5, seeds, length, 0)


def test_generators_advance_side_by_side_and_are_closed():
    closed = []

    def count(name, to):
        try:
            yield from range(to)
        finally:
            closed.append(name)

    rows = compute.side_by_side([count("a", 3), count("b", 1)])
    assert [next(rows), next(rows)] == [(0, 0), (1, None)]
    rows.close()
    assert sorted(closed) == ["a", "b"]


def test_the_useful_range_is_that_of_the_card():
    low, high = temperature.useful_temperatures("story-k4")
    assert limits.TEMPERATURE_MIN <= low < high <= limits.TEMPERATURE_MAX
    assert f"useful range {low:g} to {high:g}" in temperature.range_mark("story-k4")
    assert temperature.range_mark("some/model") == ""
