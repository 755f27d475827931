import math
import pickle
import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import calm
from calm import CalmError
from calm.engine import engine_for
from calm.engine.samplers import Choice, ChunkSampler, sample_chunk
from calm.generation import align

from .modeling.test_temperature import chi_square, tempered

PROMPTS = ["", " ", "\n\n \t", "a", "Once upon a time", "Été, 日本 🎉 \u202eabc\x00", "word " * 500]


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("alignment", ["front", "end", "condition"])
def test_any_prompt_is_continued(tiny, prompt, alignment):
    lm = tiny(4)
    steps = list(calm.generate(lm, prompt, alignment=alignment, max_new_tokens=12, pool_size=20))
    assert 1 <= len(steps) <= 3
    for index, step in enumerate(steps):
        assert step.index == index
        assert len(step.token_ids) == 4
        assert step.vector.shape == (16,) and step.vector.dtype == np.float32
        assert step.seconds > 0
        assert sum(c.probability for c in step.candidates) == pytest.approx(1)
        assert any(c.token_ids == step.token_ids for c in step.candidates)


@pytest.mark.parametrize("k", [1, 2, 3, 8, 16])
def test_any_chunk_size(tiny, k):
    steps = list(calm.generate(tiny(k), "Once upon a time", max_new_tokens=20, pool_size=10))
    assert len(steps) <= math.ceil(20 / k)
    assert all(len(step.token_ids) == k for step in steps)


def test_the_vector_of_a_step_decodes_to_its_chunk(story):
    with torch.no_grad():
        for step in calm.generate(story, "Once upon a time", temperature=0.6, max_new_tokens=60):
            decoded = story.calm.ae_model.decode(torch.from_numpy(step.vector))
            assert decoded.tolist() == step.token_ids


def test_one_seed_gives_one_text(story):
    def text(seed, **options):
        return "".join(s.text for s in calm.generate(story, "A story", seed=seed, max_new_tokens=60, **options))

    assert text(3, temperature=0.7) == text(3, temperature=0.7)
    assert len({text(seed, temperature=1.0) for seed in range(4)}) > 1
    torch.manual_seed(99)  # no global generator matters
    assert text(3, temperature=0.7) == text(3, temperature=0.7)


def test_two_interleaved_runs_are_independent(story):
    alone = ["".join(s.text for s in calm.generate(story, "A", seed=s, max_new_tokens=40)) for s in (1, 2)]
    runs = [calm.generate(story, "A", seed=s, max_new_tokens=40) for s in (1, 2)]
    together = ["", ""]
    for pair in zip(*runs):
        for i, step in enumerate(pair):
            together[i] += step.text
    assert all(whole.startswith(part) for whole, part in zip(alone, together))


def test_the_text_ends_at_end_of_text(story):
    eos = story.tokenizer.eos_token_id
    prompt = calm.storyland.prompt(0)
    steps = list(calm.generate(story, prompt, max_new_tokens=1000))
    assert eos in steps[-1].token_ids
    assert all(eos not in step.token_ids for step in steps[:-1])
    assert "<|end_of_text|>" not in "".join(step.text for step in steps)


def test_the_context_ends_without_error(tiny):
    lm = tiny(4)  # 64 chunks of context
    steps = list(calm.generate(lm, "x", max_new_tokens=4000, pool_size=2))
    assert len(steps) <= 63
    assert list(calm.generate(lm, "word " * 3000, max_new_tokens=8, pool_size=2))


def test_text_of_steps_joins_to_the_decoded_tokens(story):
    steps = list(calm.generate(story, "Once", temperature=1.5, max_new_tokens=200, seed=5))
    ids = [i for step in steps for i in step.token_ids]
    eos = story.tokenizer.eos_token_id
    ids = ids[: ids.index(eos)] if eos in ids else ids
    joined = "".join(step.text for step in steps)
    assert story.detokenize(ids).startswith(joined) and len(story.detokenize(ids)) - len(joined) < 4


def test_each_alignment_positions_the_prompt_as_documented(tiny):
    lm = tiny(4)
    eos, pad = lm.tokenizer.eos_token_id, lm.tokenizer.pad_token_id
    ids = [5, 6, 7, 8, 9]
    assert align(lm, ids, "front") == ([eos] * 3 + ids, [])
    assert align(lm, ids, "end") == ([*ids, pad, pad, pad], [])
    assert align(lm, ids, "condition") == ([eos] * 4 + ids[:4], [9])
    assert align(lm, [], "end") == ([eos] * 4, [])


def test_conditioned_first_chunk_begins_with_the_leftover(story):
    prompt = "Once upon a time there was"
    leftover = align(story, story.tokenize(prompt), "condition")[1]
    assert leftover
    first = next(calm.generate(story, prompt, alignment="condition"))
    assert first.token_ids[: len(leftover)] == leftover
    assert not first.text.startswith(story.detokenize(leftover))


def draws(story, hidden: torch.Tensor, count: int, seed: int) -> list[tuple[int, ...]]:
    """``count`` chunks drawn from a hidden state, without any rule."""
    head_step = engine_for(story).head
    noise = story.calm.generative_head.noise((count,), hidden, torch.Generator().manual_seed(seed))
    return head_step.draw(head_step.project(hidden[None]), [0] * count, noise)[0]


def choose(story, hidden: torch.Tensor, sampler: ChunkSampler) -> Choice:
    """One choice from a hidden state; the sampler's generators advance."""
    return sample_chunk(engine_for(story).head, hidden, sampler)


def new_sampler(temperature: float, pool_size: int, sampler: str, seed: int) -> ChunkSampler:
    return ChunkSampler(temperature, pool_size, sampler, seed, torch.device("cpu"))


def record(sampler: ChunkSampler) -> list[tuple[int, ...]]:
    """A list of the chunks that the sampler is fed from now on."""
    fed: list = []
    take = sampler.feed
    sampler.feed = lambda chunks, vectors: (fed.extend(chunks), take(chunks, vectors))
    return fed


@pytest.fixture(scope="module")
def open_state(story) -> torch.Tensor:
    """The hidden state [D] at a position of a held-out story where two chunks are nearly equally probable."""
    with torch.no_grad():
        for text in calm.storyland.stories("validation", 100, skip=900):
            ids, _ = align(story, story.tokenize(text))
            for hidden in story.calm(torch.tensor([ids]))[0]:
                counts = [n for _, n in Counter(draws(story, hidden, 200, seed=7)).most_common(2)]
                if len(counts) == 2 and counts[0] >= 50 and counts[1] >= 0.6 * counts[0]:
                    return hidden
    raise AssertionError("the bundled model has no such position in these stories")


@pytest.fixture(scope="module")
def chunk_counts(story, open_state):
    """The counts of the distinct chunks in 40,000 draws."""
    with torch.no_grad():
        return Counter(chunk for seed in range(40) for chunk in draws(story, open_state, 1000, seed=100 + seed))


@pytest.mark.parametrize("temperature", [0.35, 0.5, 1.0])
@pytest.mark.parametrize("sampler", ["auto", "exact"])
def test_samplers_follow_the_tempered_distribution_of_a_real_context(
    story, open_state, chunk_counts, sampler, temperature
):
    """Chi-square of a thousand choices at one position of a real text against p^(1/T), p from 40,000 draws."""
    chunks = list(chunk_counts)
    target = tempered([chunk_counts[c] / 40_000 for c in chunks], temperature)
    rule = new_sampler(temperature, 4000, sampler, seed=5)
    with torch.no_grad():
        counts = Counter(choose(story, open_state, rule).token_ids for _ in range(1000))
    unseen = 1000 - sum(counts[c] for c in chunks)  # chunks so rare that 40,000 draws did not show them
    assert abs(chi_square([*(counts[c] for c in chunks), unseen], [*target, 0.0])) < 5


def test_auto_is_the_exact_rule_where_it_accepts(story, open_state):
    """With the same draws and the same uniform numbers, both choose the same chunk."""
    from calm.modeling.temperature import ExactRule

    decided = 0
    with torch.no_grad():
        for seed in range(30):
            sampler = new_sampler(0.5, 200, "auto", seed)
            fed = record(sampler)
            chosen = choose(story, open_state, sampler)
            assert len(fed) == chosen.draws
            rule = ExactRule(0.5, random.Random(seed).random)
            accepted = next((chunk for chunk in fed if rule.feed(chunk)), None)
            assert accepted is None or accepted == chosen.token_ids
            decided += accepted is not None
    assert decided > 20


def test_draws_stop_once_the_rule_decides(story, open_state):
    def draws_at(temperature, sampler="auto"):
        with torch.no_grad():
            return choose(story, open_state, new_sampler(temperature, 200, sampler, seed=3)).draws

    assert draws_at(1.0) == 1
    assert draws_at(0.5) < 100
    assert draws_at(0.5, "pooled") == 200
    assert draws_at(1.4) == 200  # no rejection rule exists above 1


def test_token_by_token_models_generate_the_same_way(tiny_ar):
    steps = list(calm.generate(tiny_ar, "Once upon a time", temperature=0.7, max_new_tokens=10))
    assert len(steps) <= 10
    for step in steps:
        assert len(step.token_ids) == 1 and step.vector is None and step.draws == 1
        assert step.candidates[0].probability >= step.candidates[-1].probability > 0


def test_a_pool_holds_the_draws_of_the_pooled_sampler(tiny):
    lm = tiny()
    step = next(calm.generate(lm, "Once", 1.0, 4, pool_size=300, sampler="pooled", seed=1))
    pool = calm.draw_pool(lm, "Once", pool_size=300, seed=1)
    assert pool == step.candidates and len(pool) > 1
    assert sum(c.count for c in pool) == 300
    assert [c.probability for c in pool] == pytest.approx([c.count / 300 for c in pool])


def test_a_pool_follows_the_prefix_chunks(tiny):
    lm = tiny()
    ids = lm.tokenize("Once upon a time there was")[:4]
    text = lm.detokenize(ids)
    assert lm.tokenize(text) == ids
    chunked, prompted, unprompted = (
        calm.draw_pool(lm, *arguments, pool_size=2000, seed=1) for arguments in (("", [ids]), (text,), ("",))
    )
    assert chunked == prompted != unprompted


@pytest.mark.parametrize("chunks", [[[1, 2]], [[1, 2, 3, 10_000]], [["a", "b", "c", "d"]]])
def test_a_pool_needs_valid_prefix_chunks(tiny, chunks):
    with pytest.raises(CalmError, match="4 token ids below"):
        calm.draw_pool(tiny(), "Once", chunks)


@pytest.mark.parametrize("prompt", ["<|end_of_text|>Hello", "[PAD]"])
def test_special_tokens_in_a_prompt_are_text(tiny, prompt):
    ids = align(tiny(1), tiny(1).tokenize(prompt))[0]
    assert tiny(1).tokenizer.eos_token_id not in ids[1:] and tiny(1).pad_id not in ids
    assert next(calm.generate(tiny(), prompt, max_new_tokens=4, pool_size=4)).token_ids


def test_a_text_goes_on_within_a_character(tiny, monkeypatch):
    lm = tiny(1)
    *first, last = lm.tokenize("🙂")
    choice = Choice((last,), None, [], 1)
    monkeypatch.setattr("calm.generation.engine_for", lambda lm: SimpleNamespace(stream=lambda _: [(choice, 0.1)]))
    (step,) = calm.generate(lm, "Hi ", prefix_chunks=[[i] for i in first])
    assert step.text == "🙂"


def test_a_token_by_token_model_has_no_pool(tiny_ar):
    with pytest.raises(CalmError, match="no vectors"):
        calm.draw_pool(tiny_ar, "Once")


def test_a_text_continues_from_prefix_chunks(tiny):
    lm = tiny()
    ids = lm.tokenize("Once upon a time there was")[:4]
    steps = list(calm.generate(lm, "", 1.0, 16, seed=3, prefix_chunks=[ids]))
    assert [step.token_ids for step in steps] == [
        step.token_ids for step in calm.generate(lm, lm.detokenize(ids), 1.0, 16, seed=3)
    ]
    with pytest.raises(CalmError, match="4 token ids below"):
        calm.generate(lm, "", prefix_chunks=[ids[:3]])


def test_candidates_are_built_once_when_they_are_read(tiny):
    built = []
    candidates = calm.generation.Candidates(lambda: built.append(1) or [calm.Candidate([1], "a", 2, 1.0)])
    assert not built
    assert candidates == [calm.Candidate([1], "a", 2, 1.0)] and len(candidates) == 1 and candidates[0].count == 2
    assert pickle.loads(pickle.dumps(candidates)) == list(candidates) and built == [1]
    step = next(calm.generate(tiny(4), "x", max_new_tokens=4))
    assert isinstance(step.candidates, calm.generation.Candidates)
