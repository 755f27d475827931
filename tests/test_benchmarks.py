"""The benchmarks run, and their counts are right. The tests do not check speed."""

import asyncio
import json
from itertools import pairwise
from math import isfinite, log

import pytest
import torch

from benchmarks import (
    alignment,
    concurrency,
    generation,
    heads,
    language,
    loading,
    openness,
    overhead,
    paired,
    pool,
    precision,
    sizes,
    tradeoff,
    training,
    vocabulary,
)
from calm.evaluation.brier import MAX_ORDER
from calm.generation import ALIGNMENTS
from calm.storyland import stories
from calm.storyland.tokens import TokenLanguage
from calm.training.tasks import make


def test_alignment_scores_each_alignment_of_a_prompt(story):
    figures = alignment.measure(story, 1, samples=4, every=40)
    assert figures["positions"] > 0 and set(figures["brier"]) == set(ALIGNMENTS)
    assert all(isfinite(score) and score <= 100 for score in figures["brier"].values())


def test_loading_counts_the_weights_and_the_growth_of_memory(tiny, tmp_path):
    lm = tiny(4)
    for file_format in loading.FORMATS:
        loading.write(lm.model, lm.tokenizer, tmp_path / file_format, file_format)
        figures = loading.load(tmp_path / file_format, torch.bfloat16)
        assert figures["weights"] == 2 * lm.num_parameters and figures["growth"] >= 0


def test_generation_measures_every_contestant(tiny, monkeypatch):
    monkeypatch.setattr(generation, "load", lambda name: tiny(4))
    monkeypatch.setattr(generation, "floor", lambda lm: {"milliseconds_per_chunk": 1.5})
    for name, value in (("TEMPERATURES", (1.0,)), ("LONG", 24), ("SHORT", 8)):
        monkeypatch.setattr(generation, name, value)
    figures = generation.measure("any", tokens=8, rounds=1)
    assert len(figures["tokens_per_second"]) == 5 and all(rate > 0 for rate in figures["tokens_per_second"].values())
    assert set(figures["draws_per_step"]) == {generation.OWN, "calm.generate at T = 1"} and figures["long_cost"] > 0
    lines = generation.report(figures).splitlines()
    assert lines[0].startswith("tiny-k4 on cpu") and lines[1].startswith(generation.PEER) and "1.00x" in lines[1]
    assert lines[-2].endswith("1.5 milliseconds per chunk")
    assert figures["share_of_floor"] == pytest.approx(1.5 / figures["step_milliseconds"])
    assert f"{figures['share_of_floor']:.0%}" in lines[-1]


def test_vocabulary_measures_both_searches(tiny, monkeypatch):
    embedding, states = (torch.randn(n, 64, generator=torch.Generator().manual_seed(0)) for n in (500, 20))
    first, second = vocabulary.searches("random", embedding, states, [2, 9], rounds=1)
    assert (first["states"], second["states"]) == (2, 9) and first["chosen"] in ("bounds", "all logits")
    monkeypatch.setattr(vocabulary, "build", lambda *arguments: tiny(4))
    figures = vocabulary.generation("any", rounds=1)
    assert figures["bounds"] > 0 and figures["all logits"] > 0


def test_heads_are_measured_by_their_evaluations(story, monkeypatch):
    monkeypatch.setattr(heads, "STORY_TOKENS", 24)
    monkeypatch.setattr(heads, "DRAWS", 20)
    contestant = heads.Contestant(heads.REFERENCE, heads.REFERENCE, 1)
    content = {"heads": [], "places": []}
    heads.add(content, contestant, heads.quality(contestant, list(stories("tests", 1)), stories=2))
    heads.add(content, contestant, {"draws_per_second": heads.speeds([contestant], 1)[contestant]})
    (point,) = content["heads"][0]["points"]
    assert all(0 <= point[key]["low"] <= point[key]["high"] <= 1 for key in ("well_formed", "well_formed_tempered"))
    assert point["draws_per_second"] > 0 and f"| {heads.REFERENCE} | 1 |" in heads.table(content)
    place = heads.place({heads.REFERENCE: story}, next(stories("tests", 1)), 3)
    (draws,) = place["draws"]
    assert len(draws["points"]) == len(draws["chunks"]) == 20 and max(draws["chunks"]) < len(place["chunks"])
    assert all(chunk["probability"] >= heads.LIKELY for chunk in place["chunks"][: len(place["likely"])])


def test_shares_have_intervals_over_stories():
    figure = heads.interval([4, 0, 3, 2], [4, 0, 4, 4])
    assert figure["value"] == 9 / 12 and 0.5 <= figure["low"] < 0.75 < figure["high"] <= 1


def test_every_caller_generates_the_texts_of_the_engine(story, monkeypatch):
    monkeypatch.setattr(overhead, "TEXTS", 1)
    with asyncio.Runner() as runner:
        contestants = {
            overhead.ENGINE: overhead.engine_alone(story),
            "calm.generate": overhead.library(story),
            "the page": overhead.page(runner),
            "the endpoint's function": overhead.endpoint(),
        }
        rates = overhead.measure(contestants, 0.7, 12, 1)
    assert set(rates) == set(contestants) and all(isfinite(rate) and rate > 0 for rate in rates.values())
    with pytest.raises(RuntimeError, match="another does not"):
        overhead.measure({overhead.ENGINE: overhead.engine_alone(story), "another": lambda *_: ""}, 0.7, 12, 0)


def test_the_pool_counts_the_draws_of_a_step(story):
    counts = pool.draws(story, 1, 0.5, every=20)
    assert counts and all(2 <= count <= 200 for count in counts)


def test_the_choices_of_auto_are_close_to_the_tempered_distribution():
    for p in pool.DISTRIBUTIONS.values():
        assert abs(pool.variation(p, 0.4, choices=1000)) < 0.05


def test_any_number_of_clients_requests_the_same_texts(tiny):
    lm, options = tiny(4), {"max_new_tokens": 8, "pool_size": 4}
    texts = [concurrency.run_clients(lm, count, ["x", "a story"], options, 100)[0] for count in (1, 3)]
    ids = [{seed: text.ids for seed, text in each.items()} for each in texts]
    assert ids[0] == ids[1]
    assert sorted(ids[0]) == list(range(100, 100 + concurrency.TEXTS)) and all(ids[0].values())


def test_a_size_is_compared_with_the_limit_and_token_by_token(tiny, monkeypatch):
    monkeypatch.setattr(sizes, "build", lambda *_: tiny(4))
    figures = sizes.measure("any", tokens=16, draws=3, rounds=1)
    assert figures["parameters"] > 0 and all(isfinite(value) and value > 0 for value in figures.values())
    assert figures["share_of_floor"] == figures["floor"] / figures["milliseconds_per_chunk"]


def test_the_measured_loops_can_be_built(tmp_path):
    for name, values in training.settings(tmp_path, steps=40, stories=40).values():
        assert training.flops_per_step(make(name, values)) > 1e9


def test_accuracy_and_collisions_count_the_first_n_tokens():
    targets = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    assert tradeoff.rates(targets.expand(3, 2, 4), targets) == (100, 100)
    others = torch.tensor([[[1, 2, 9, 4], [5, 6, 7, 8]], [[1, 2, 3, 4], [5, 0, 7, 8]]])
    accuracy, collision = tradeoff.rates(others, targets)
    assert accuracy == pytest.approx(100 * (4 / 4 * 3 / 4 * 2 / 4 * 2 / 4) ** 0.25)
    assert collision == pytest.approx(0)  # no two draws have the same three tokens


def test_each_method_has_its_rates(tiny, tiny_ar, monkeypatch):
    monkeypatch.setattr(tradeoff, "POOLS", (1, 5))
    text = "Once upon a time there was a shy fox named Mia."
    figures = tradeoff.of_calm(tiny(4), [text])
    assert set(figures[tradeoff.OURS]) == set(tradeoff.TEMPERATURES) and set(figures[tradeoff.PUBLISHED]) == {1, 5}
    figures["token by token"] = tradeoff.token_by_token(tiny_ar, [text], 4)
    assert all(0 <= rate <= 100 for method in figures.values() for rates in method.values() for rate in rates)
    accuracy, collision = tradeoff.of_calm(tiny(4), [text])[tradeoff.NOISE][1.0]
    assert (accuracy, collision) == figures[tradeoff.NOISE][1.0]


def test_a_model_that_repeats_the_text_has_energy_score_zero(tiny, tiny_ar, monkeypatch):
    text = "Once upon a time there was a shy fox named Mia."
    figures = precision.measure(tiny(4), tiny_ar, [text], 2)
    assert figures["positions"] > 1 and all(isfinite(score) for score in figures.values())
    monkeypatch.setattr(precision, "generated", lambda lm, contexts, temperature, seed: tradeoff.targets(contexts))
    perfect = precision.measure(tiny(4), tiny_ar, [text], 2)
    assert perfect["tiny-ar"] == pytest.approx(0, abs=1e-3) and perfect["drawn"] == figures["drawn"] > 0.1


def test_openness_and_variety_of_the_language(story):
    itself = TokenLanguage(story.tokenizer)
    results = openness.openness(itself, list(stories("tests", 1)), [1, 4])
    assert results["K = 1"]["bits a story"] == results["K = 4"]["bits a story"] > 10
    for figures in results.values():
        assert 0.5 < figures["probability"] <= 1 and 0.5 < figures["boundaries"] <= 1
    assert results["K = 4"]["bits a chunk"] > 3 * results["K = 1"]["bits a chunk"]
    varied = openness.variety(itself, 4, 0.5, 3)
    assert 1 <= varied["plots"] <= 3 and 1 <= varied["heroes"] <= 3 and varied["consistent"] == 1


def test_the_language_is_measured_at_the_positions_of_a_model(story):
    itself = TokenLanguage(story.tokenizer)
    texts = list(stories("tests", 2))
    for text in texts:
        ids = story.tokenize(text)
        positions, nats = language.read(itself, text)
        assert len(positions) == len(ids) // MAX_ORDER
        bits = openness.openness(itself, [text], [4])["K = 4"]["bits a story"]
        assert bits * log(2) == pytest.approx(nats, rel=1e-3)
        for number, probabilities in enumerate(positions):
            target = ids[MAX_ORDER * number :][:MAX_ORDER]
            shares = [
                sum(p for tokens, p in probabilities.items() if len(tokens) == n) for n in range(1, MAX_ORDER + 1)
            ]
            assert 0.99 < shares[0] < 1.0001 and all(a > b - 1e-9 for a, b in pairwise(shares))
            assert probabilities[(target[0],)] > 0
    with pytest.raises(ValueError, match="does not continue"):
        language.read(itself, "Call me Ishmael.")
    results = language.measure([story], texts, samples=2)
    assert results["Storyland"]["positions"] == results[story.name]["positions"]
    assert abs(results[story.name]["gap"]["difference"]) < 20  # two texts are too few for its sign


def test_two_models_are_compared_text_by_text(monkeypatch, capsys):
    command = ["paired", "story-k4", "story-ar", "--texts", "2", "--exact", "--json"]
    monkeypatch.setattr("sys.argv", command)
    paired.main()
    result = json.loads(capsys.readouterr().out)
    assert result["low"] <= result["difference"] <= result["high"]
    assert result["difference"] == pytest.approx(result["story-k4"]["score"] - result["story-ar"]["score"], abs=0.5)
