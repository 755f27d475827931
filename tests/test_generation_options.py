"""Options of generation: their forms and bounds, and that a bad request does not affect others."""

import math
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

import calm
from calm import CalmError
from calm.generation import MIN_TEMPERATURE


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"temperature": 0}, "above 0 and at most 2"),
        ({"temperature": 2.5}, "above 0 and at most 2"),
        ({"temperature": float("nan")}, "above 0"),
        ({"temperature": 1.5, "sampler": "exact"}, "at most 1"),
        ({"sampler": "greedy"}, "auto, exact, pooled"),
        ({"alignment": "middle"}, "front, end, condition"),
        ({"max_new_tokens": 0}, "at least 1"),
        ({"max_new_tokens": 1.5}, "whole number"),
        ({"pool_size": 0}, "from 1 to 10,000"),
        ({"seed": -1}, "from 0"),
        ({"seed": True}, "whole number"),
        ({"prompt": None}, "must be text"),
        ({"prompt": "half \ud83d"}, "must be text"),
        ({"temperature": 1e-40}, "at least 0.001"),
        ({"temperature": 1e-320, "sampler": "pooled"}, "at least 0.001"),
        ({"temperature": True}, "above 0"),
        ({"temperature": None}, "above 0"),
        ({"temperature": "warm"}, "above 0 and at most 2, not 'warm'"),
        ({"temperature": 1j}, "above 0"),
        ({"temperature": 10**400}, "at most 2"),
        ({"temperature": float("inf")}, "at most 2"),
        ({"sampler": None}, "auto, exact, pooled"),
        ({"sampler": ["auto"]}, "auto, exact, pooled"),
        ({"max_new_tokens": "8"}, "whole number"),
        ({"max_new_tokens": float("nan")}, "whole number"),
        ({"pool_size": None}, "whole number"),
        ({"seed": 2**63}, "from 0"),
        ({"seed": -(10**5000)}, "from 0"),
        ({"prefix_chunks": 5}, "a list of chunks"),
        ({"prefix_chunks": [5]}, "a list of chunks"),
        ({"prefix_chunks": "text"}, "4 token ids below"),
        ({"prefix_chunks": [[1, 2, 3, 1.0]]}, "4 token ids below"),
        ({"prefix_chunks": [[1, 2, 3, -1]]}, "4 token ids below"),
    ],
)
def test_bad_arguments_are_reported_in_one_sentence_before_the_first_step(tiny, options, sentence):
    with pytest.raises(CalmError, match=sentence):
        calm.generate(tiny(4), **{"prompt": "x", **options})


def test_options_hold_plain_python_numbers():
    plain = calm.GenerationOptions(0.5, 8, 20, "auto", 3, "front", ((1, 2, 3, 4),))
    other = calm.GenerationOptions(
        "0.5", np.int64(8), np.uint8(20), "auto", np.int32(3), "front", [np.array([1, 2, 3, 4])]
    )
    assert other == plain and replace(other, seed=np.int8(4)) == replace(plain, seed=4)
    assert [type(getattr(other, name)) for name in ("temperature", "max_new_tokens", "seed")] == [float, int, int]
    with pytest.raises(FrozenInstanceError):
        other.seed = 4


@pytest.mark.parametrize("form", ["0.5", np.float64(0.5), np.float16(0.5), torch.tensor(0.5)])
def test_a_temperature_may_have_any_numeric_form(tiny, form):
    lm = tiny(4)
    texts = [[s.token_ids for s in calm.generate(lm, "x", t, 24, pool_size=8, seed=1)] for t in (0.5, form)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("sampler", ["auto", "pooled"])
@pytest.mark.parametrize("temperature", [MIN_TEMPERATURE, 0.01, 0.0137])
def test_the_lowest_temperatures_choose_the_most_probable(story, sampler, temperature):
    for lm in (story, calm.load("story-ar", "cpu")):
        for step in calm.generate(lm, "Once upon a time", temperature, 24, sampler=sampler, pool_size=50):
            probabilities = [candidate.probability for candidate in step.candidates]
            assert probabilities == sorted(probabilities, reverse=True) and all(map(math.isfinite, probabilities))
            (chosen,) = (c.probability for c in step.candidates if c.token_ids == step.token_ids)
            assert chosen == probabilities[0]  # two chunks may share the largest count


def test_a_bad_request_does_not_change_the_running_ones(story):
    options = {"temperature": 0.7, "max_new_tokens": 48}
    alone = [[s.token_ids for s in calm.generate(story, "Once", seed=i, **options)] for i in range(4)]
    runs = [calm.generate(story, "Once", seed=i, **options) for i in range(4)]
    texts = [[next(run).token_ids] for run in runs]
    for temperature in (1e-40, 1e-320, float("nan"), None):
        with pytest.raises(CalmError):
            calm.generate(story, "Once", temperature)
    fifth = [s.token_ids for s in calm.generate(story, "Once", "0.7", 48, seed=0)]
    for text, run in zip(texts, runs):
        text += [s.token_ids for s in run]
    assert texts == alone and fifth == alone[0]


def test_the_exact_sampler_raises_one_sentence_at_its_limit(tiny, monkeypatch):
    monkeypatch.setattr("calm.engine.samplers.EXACT_LIMIT", 100)
    lm = tiny(4)
    torch.manual_seed(0)
    lm.calm.generative_head.final_layer.linears[2].weight.data.normal_(std=5)  # every draw is another chunk
    with pytest.raises(CalmError, match="did not accept within 100 draws"):
        list(calm.generate(lm, "x", temperature=0.1, sampler="exact", max_new_tokens=4))
