"""A text that another engine continues after some of its steps equals the undisturbed one."""

import numpy as np
import pytest

import calm
from calm.engine import Backend, create_engine

PROMPT = "Once upon a time there was a shy fox. "


def steps_of(lm, options, completed=()):
    return list(calm.stream(lm, PROMPT, options, completed=completed))


def check(lm, options, splits):
    """Continues a text after each of ``splits`` steps on a new engine."""
    backend = Backend.PYTORCH if lm.name.startswith("tiny") else None
    create_engine(lm, backend=backend)  # another test may have given the model an engine of another backend
    whole = steps_of(lm, options)
    for split in splits:
        create_engine(lm, backend=backend)
        rest = steps_of(lm, options, [step.completed() for step in whole[:split]])
        assert [step.index for step in rest] == list(range(split, len(whole)))
        for step, other in zip(whole[split:], rest, strict=True):
            assert (step.token_ids, step.text, step.draws) == (other.token_ids, other.text, other.draws)
            assert step.candidates == other.candidates
            assert step.vector is None or np.array_equal(step.vector, other.vector)


@pytest.mark.parametrize(
    ("sampler", "temperature", "pool_size"), [("auto", 0.45, 40), ("exact", 1.0, 40), ("pooled", 1.3, 30)]
)
@pytest.mark.parametrize("alignment", ["front", "condition"])
def test_every_sampler_continues_bit_for_bit(tiny, sampler, temperature, pool_size, alignment):
    options = calm.GenerationOptions(temperature, 40, pool_size, sampler, 3, alignment)
    check(tiny(), options, (1, 4, 9, 10))


def test_a_token_by_token_model_continues_bit_for_bit(tiny_ar):
    check(tiny_ar, calm.GenerationOptions(0.8, 12, seed=2), (1, 7, 12))


def test_the_kernels_continue_bit_for_bit_behind_a_long_prompt(story):
    """The prompt is prefilled by PyTorch and each later chunk by the kernels, as in the undisturbed run."""
    options = calm.GenerationOptions(0.5, 64, seed=7, prefix_chunks=[story.tokenize(PROMPT)[:4]] * 40)
    check(story, options, (1, 6))


def test_chunks_of_another_model_are_refused(tiny):
    step = next(calm.stream(tiny(2), PROMPT, calm.GenerationOptions(1.0, 8)))
    with pytest.raises(calm.CalmError, match="A chunk must be 4 token ids"):
        steps_of(tiny(4), calm.GenerationOptions(1.0, 8), [step.completed()])
