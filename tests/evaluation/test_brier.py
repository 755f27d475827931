import math
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
import torch

import calm
from calm import CalmError
from calm.evaluation import brier as brier_module
from calm.evaluation.brier import brier_n, geometric_mean, summarize
from calm.evaluation.reports import evaluate
from calm.evaluation.reports import positions as measure_positions
from calm.hub.text_format import begin_of_text_format


def test_brier_n_of_a_categorical_sampler_has_its_closed_form():
    """For draws of q and targets of p, Brier-1 is 2 sum p q - sum q^2, and independent tokens multiply."""
    generator = torch.Generator().manual_seed(0)
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.2])
    positions = 200_000
    target = torch.multinomial(p, positions * 4, True, generator=generator).view(positions, 4)
    samples = torch.multinomial(q, 3 * positions * 4, True, generator=generator).view(3, positions, 4)
    measured = brier_n(samples, target).mean(0)
    for n in range(1, 5):
        expected = 2 * float(p @ q) ** n - float(q @ q) ** n
        assert float(measured[n - 1]) == pytest.approx(expected, abs=0.005)


def test_the_true_sampler_scores_best():
    generator = torch.Generator().manual_seed(1)
    p = torch.tensor([0.6, 0.3, 0.1])
    positions = 100_000
    target = torch.multinomial(p, positions * 4, True, generator=generator).view(positions, 4)

    def score(q):
        samples = torch.multinomial(torch.tensor(q), 2 * positions * 4, True, generator=generator).view(2, positions, 4)
        return float(brier_n(samples, target).mean(0)[0])

    assert score([0.6, 0.3, 0.1]) > max(score([0.98, 0.01, 0.01]), score([0.34, 0.33, 0.33]), score([0.3, 0.6, 0.1]))


def test_a_negative_brier_counts_as_zero():
    assert float(geometric_mean(torch.tensor([0.5, 0.2, -0.1, 0.1]).numpy())) == 0
    assert float(geometric_mean(torch.full((4,), 0.25).numpy())) == pytest.approx(25)


def test_a_sharp_token_model_is_measured_exactly(tiny_ar):
    """With all weights equal the model is uniform over V tokens, so Brier-n is V^-n for any text."""
    lm = tiny_ar
    with torch.no_grad():
        lm.llama.model.embed_tokens.weight.zero_()
    v = len(lm.tokenizer)
    result = calm.brier_lm(lm, ["Once upon a time there was a fox."])
    for n, value in enumerate(result.brier, 1):
        assert value / 100 == pytest.approx(v**-n, rel=1e-3)


def test_the_probability_of_a_match_replaces_the_match(tiny):
    lm, texts = tiny(4), ["Once upon a time there was a fox.", "A fox named Mia lived in a den near the river."]

    def sampled_match(text, drawn):
        targets = torch.tensor(lm.tokenize(text)).unfold(0, 4, 4)
        assert drawn.shape == (3, *targets.shape)
        return (drawn == targets).cumprod(-1).double()

    measured = calm.brier_lm(lm, texts, samples=3)
    assert calm.brier_lm(lm, texts, samples=3, expected_match=sampled_match) == measured
    certain = calm.brier_lm(lm, texts, samples=3, expected_match=lambda text, drawn: torch.ones(drawn.shape))
    assert certain.positions == measured.positions
    assert all(brier >= 100 for brier in certain.brier)  # 2 - collisions


@pytest.mark.parametrize("temperature", [0.5, 1.0])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 8])
def test_any_chunk_size_is_measured(tiny, k, temperature):
    texts = list(calm.storyland.corpus(2, 0))
    result = calm.brier_lm(tiny(k), [text[:120] for text in texts], temperature=temperature)
    assert 0 <= result.score <= 100 and len(result.brier) == 4
    assert result.low <= result.high
    assert result.positions > 2


def test_both_kinds_are_measured_at_the_same_positions(tiny, tiny_ar):
    texts = ["Once upon a time there was a fox named Mia.", "The end of the story is here."]
    assert calm.brier_lm(tiny(4), texts).positions == calm.brier_lm(tiny_ar, texts).positions


def test_in_the_official_format_both_kinds_are_measured_behind_the_first_chunk(tiny, tiny_ar, monkeypatch):
    """One start token shares the first chunk with the text: both kinds have the targets of a CALM with K = 4."""
    targets = []
    two_parts = brier_module._two_parts
    monkeypatch.setattr(
        brier_module, "_two_parts", lambda drawn, of_text: targets.append(of_text) or two_parts(drawn, of_text)
    )
    text = "Once upon a time there was a fox named Mia."
    for lm in (tiny(4), tiny(1), tiny_ar):
        lm.text_format = begin_of_text_format(lm.tokenizer)
        calm.brier_lm(lm, [text])
    expected = torch.tensor(lm.tokenize(text)[3:]).unfold(0, 4, 4)
    assert len(targets) == 3 and all(torch.equal(each, expected) for each in targets)


def test_the_bundled_model_scores_above_chance_within_its_interval(story):
    texts = list(calm.storyland.stories("validation", 12, skip=500))
    result = calm.brier_lm(story, texts, seed=1)
    assert result.low <= result.score <= result.high
    assert result.score == calm.brier_lm(story, texts, seed=1).score
    assert result.score > 20 and not math.isnan(result.low)


def test_bad_arguments_are_refused(tiny):
    with pytest.raises(CalmError, match="at least one text"):
        calm.brier_lm(tiny(4), ["", "a"])
    with pytest.raises(CalmError, match="seed must be a whole number from 0"):
        calm.brier_lm(tiny(4), ["Once upon a time"], seed=-1)
    with pytest.raises(CalmError, match="at least 2 samples"):
        calm.brier_lm(tiny(4), ["Once upon a time"], samples=1)
    with pytest.raises(CalmError, match="multiple of the chunk size"):
        calm.brier_lm(tiny(4), ["Once upon a time"], stride=3)
    with pytest.raises(CalmError, match="temperature must be above 0 and at most 2"):
        calm.brier_lm(tiny(4), ["Once upon a time"], temperature=2.5)


def test_a_difference_is_paired_over_the_texts(story, tiny):
    texts = list(calm.storyland.stories("validation", 12))
    one, other = (calm.brier_lm(lm, texts) for lm in (story, tiny(4)))
    result = calm.brier_difference(one, other)
    assert result.difference == pytest.approx(one.score - other.score)
    assert 0 < result.low < result.difference < result.high
    mirrored = calm.brier_difference(other, one)
    assert (-mirrored.difference, -mirrored.high, -mirrored.low) == pytest.approx(
        (result.difference, result.low, result.high)
    )
    one, again = (calm.brier_lm(story, texts, seed, samples=32) for seed in (0, 1))
    same = calm.brier_difference(one, again)  # the only difference are the samples
    assert same.low < 0 < same.high and same.high - same.low < (one.high - one.low) / 2


def test_only_models_on_the_same_texts_are_compared(story):
    texts = list(calm.storyland.stories("validation", 3))
    whole, part = calm.brier_lm(story, texts), calm.brier_lm(story, texts[:2])
    with pytest.raises(CalmError, match="measured on the same texts"):
        calm.brier_difference(whole, part)
    with pytest.raises(CalmError, match="measured on the same texts"):
        calm.brier_difference(calm.BrierLM(**whole.figures()), calm.BrierLM(**whole.figures()))


def test_a_text_that_one_model_cannot_measure_is_left_out_of_the_difference(tiny, tiny_ar):
    """Each text keeps its place, so that the same texts are compared."""
    texts = ["Once upon a time there was a fox.", "A fox.", "An owl named Ben lived near the lake."]
    lm = tiny(4)
    lm.text_format = begin_of_text_format(lm.tokenizer)
    assert 4 <= len(lm.tokenize(texts[1])) < 7  # start token and text do not fill a chunk with four tokens behind it
    one, other = (calm.brier_lm(model, texts) for model in (lm, tiny_ar))
    assert [text[-1] > 0 for text in one.per_text] == [True, False, True]
    assert all(text[-1] for text in other.per_text)
    without = summarize(other.per_text[::2])
    difference = calm.brier_difference(one, other)
    assert difference == calm.brier_difference(replace(one, per_text=one.per_text[::2]), without)
    assert difference.difference == pytest.approx(one.score - without.score)
    nothing = replace(one, per_text=((0.0,) * 5,) * 3)
    with pytest.raises(CalmError, match="measured on the same texts"):
        calm.brier_difference(nothing, other)


def test_the_bootstrap_of_many_texts_needs_little_memory():
    per_text = tuple((0.5, 0.4, 0.3, 0.2, 1.0) for _ in range(2000))
    tracemalloc.start()
    result = summarize(per_text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20e6 and result.low == pytest.approx(result.high)


def test_the_draws_of_the_bootstrap_do_not_depend_on_its_memory(monkeypatch):
    texts = np.random.default_rng(0).random((2, 7, 5))
    expected = brier_module._resample(texts, 1, 100)
    monkeypatch.setattr(brier_module, "RESAMPLED_TEXTS", 21)
    assert np.array_equal(brier_module._resample(texts, 1, 100), expected)


def test_brier_lm_by_position_in_packed_rows(tiny, tiny_ar):
    texts = list(calm.storyland.corpus(4, 0))
    for lm, tokens in ((tiny(4), 256), (tiny(8), 256), (tiny_ar, 64)):
        parts = measure_positions(lm, texts, tokens)
        quarters = [[i * tokens // 4, (i + 1) * tokens // 4] for i in range(4)]
        assert [part["tokens"] for part in parts] == quarters
        stride, rows = max(lm.chunk_size, 4), parts[0]["rows"]
        # Positions lie every ``stride`` tokens behind the start of the row, and four tokens follow each of them.
        starts = range(lm.chunk_size, tokens - 3, stride)
        expected = [sum(begin <= start < end for start in starts) for begin, end in quarters]
        assert [part["positions"] for part in parts] == [rows * count for count in expected]
        assert all(0 <= part["low"] <= part["score"] <= part["high"] for part in parts)
    with pytest.raises(CalmError, match="row_tokens must be a whole number from 16 to 256, not 512"):
        measure_positions(tiny(4), texts, 512)
    with pytest.raises(CalmError, match="must hold a multiple of 16 tokens, not 100"):
        measure_positions(tiny(4), texts, 100)
    with pytest.raises(CalmError, match="row_tokens must be a whole number from 16 to 256, not 0"):
        evaluate(tiny(4), ["storyland:0:1"], row_tokens=0)
    with pytest.raises(CalmError, match="do not fill a row of 256 tokens"):
        measure_positions(tiny(4), ["A fox."], 256)
