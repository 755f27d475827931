"""Steps and draws of fixed shapes as CUDA graphs on a GPU; without a GPU, the same functions run eagerly on a CPU."""

import pytest
import torch

import calm
from calm.engine import Backend, create_engine
from calm.engine.backbone import BackboneStep, make_backbone_step
from calm.engine.head import DRAW_BLOCK, SLOTS, CudaGraphHeadStep, HeadStep
from calm.evaluation.reports import story_figures

from ..test_scheduler import PROMPTS, interleave, token_ids

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOKENS, STORIES = (160, 16) if DEVICE == "cuda" else (64, 6)  # an eager step takes many times as long


def captured(name: str) -> calm.LanguageModel:
    lm = calm.load(name, DEVICE)
    engine = create_engine(lm, backend=Backend.CUDA_GRAPHS)
    assert type(engine.backbone) is BackboneStep and isinstance(engine.head, CudaGraphHeadStep) == lm.is_calm
    return lm


@pytest.fixture(scope="module", params=["story-k4", "story-k8", "story-ar"])
def lm(request) -> calm.LanguageModel:
    return captured(request.param)


def generate(lm, seed: int, **options):
    options = {"temperature": 0.5, "max_new_tokens": TOKENS, "seed": seed, **options}
    return calm.generate(lm, PROMPTS[seed % 4], **options)


def test_a_captured_step_computes_what_transformers_computes():
    lm = calm.load("story-k1", DEVICE, torch.float32)  # its context holds 600 chunks
    chunks = torch.tensor(lm.tokenize(" ".join(PROMPTS) * 60)[:600], dtype=torch.long).view(600, 1)
    with torch.inference_mode():
        inputs = lm.calm.embed(chunks.to(DEVICE))
        expected = lm.backbone(inputs_embeds=inputs[None], use_cache=False).last_hidden_state[0]
        backbone = make_backbone_step(lm.backbone, 4, lm.calm.embed, backend=Backend.CUDA_GRAPHS)
        starts = [3, 250, 590, 511]  # some grow beyond the reserved cache, so that the step is captured again
        for slot, start in enumerate(starts):
            (state,) = backbone.step([slot], [start], chunks[:start])
            assert torch.allclose(state, expected[start - 1], atol=1e-3)
        for step in range(10):
            slots = [0] if step % 3 == 2 else [slot for slot in range(4) if starts[slot] < len(inputs)]
            states = backbone.step(slots, [1] * len(slots), torch.stack([chunks[starts[slot]] for slot in slots]))
            for slot, state in zip(slots, states):
                assert torch.allclose(state, expected[starts[slot]], atol=1e-3)
                starts[slot] += 1


@pytest.mark.parametrize("count", [1, 5, DRAW_BLOCK, 3 * DRAW_BLOCK + 7])
@torch.inference_mode()
def test_captured_draws_are_those_of_the_modules(count):
    model = calm.load("story-k4", DEVICE, torch.float32).calm
    modules, captured = HeadStep(model), CudaGraphHeadStep(model)
    generator = torch.Generator(DEVICE).manual_seed(count)
    hidden = torch.randn(min(count, SLOTS), model.config.hidden_size, device=DEVICE, generator=generator)
    states = modules.project(hidden)
    assert torch.allclose(captured.project(hidden), states, atol=1e-3)
    rows = [i % len(hidden) for i in range(count)]
    noise = model.generative_head.noise((count,), hidden, generator)
    chunks, vectors = captured.draw(states, rows, noise)
    expected = modules.vectors(states, rows, noise)
    assert torch.allclose(torch.from_numpy(vectors), expected.cpu(), atol=1e-3)
    same = (torch.tensor(chunks, device=DEVICE) == modules.decode(expected)).all(-1)
    assert same.float().mean() > 0.9  # rounding seldom decides between two tokens


def test_a_text_is_the_same_alone_and_among_others(lm):
    options = [{"temperature": 0.35 + 0.1 * i} for i in range(SLOTS)]
    alone = [token_ids(generate(lm, i, **options[i])) for i in range(SLOTS)]
    assert token_ids(generate(lm, 3, **options[3])) == alone[3]
    assert interleave([generate(lm, i, **options[i]) for i in range(SLOTS)]) == alone


@pytest.mark.parametrize("name", ["story-k4", "story-ar"])
def test_stories_are_as_well_formed_as_those_of_the_cpu_kernels(name):
    assert story_figures(captured(name), STORIES, 0.5)["well_formed"] > 0.85
