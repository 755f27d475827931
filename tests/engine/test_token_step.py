import pytest
import torch

import calm
from calm.engine import Backend, create_engine
from calm.engine.head import SLOTS
from calm.engine.ops import cpu as kernels
from calm.engine.token_step import TOP_TOKENS, CpuTokenStep, TokenStep, make_token_step

from ..modeling.test_temperature import chi_square
from .ops.cpu.emulated_unit import HAS_UNIT


@pytest.mark.parametrize("stored", ["float32", "bfloat16", *["bfloat16, by a matrix unit"] * HAS_UNIT])
@torch.inference_mode()
def test_kernels_compute_what_the_modules_compute_whatever_rows_lie_beside(tiny_ar, stored, monkeypatch):
    monkeypatch.setattr(kernels, "MATRIX_UNIT", "unit" in stored)
    model = tiny_ar.llama.to(getattr(torch, stored.split(",")[0])).float()
    modules, compiled = TokenStep(model), make_token_step(model)
    assert isinstance(compiled, CpuTokenStep)
    tokens = torch.arange(SLOTS)[:, None] * 7 % len(tiny_ar.tokenizer)
    assert torch.equal(compiled.embed(tokens), modules.embed(tokens))
    hidden = torch.sin(torch.arange(SLOTS * 32.0) * 0.7).view(SLOTS, 32)
    logits = compiled.project(hidden)
    assert torch.allclose(logits, modules.project(hidden), atol=1e-5)
    for row in range(SLOTS):
        assert torch.equal(compiled.project(hidden[row : row + 1])[0], logits[row])


@pytest.mark.parametrize("backend", [Backend.CPU_KERNELS, Backend.PYTORCH])
@torch.inference_mode()
def test_tokens_follow_the_softmax_at_a_temperature(tiny_ar, backend):
    step, count = make_token_step(tiny_ar.llama, backend), 5000
    logits = 3 * torch.sin(torch.arange(150.0) * 0.7)
    uniforms = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature in (0.5, 1.0, 1.7):
        p = (logits.double() / temperature).softmax(-1)
        drawn = step.sample(logits.expand(count, -1).contiguous(), torch.full((count,), temperature), uniforms)
        assert abs(chi_square([drawn.tokens.count(v) for v in range(len(p))], p.tolist())) < 4
        assert drawn.best[0] == p.topk(TOP_TOKENS).indices.tolist()
        assert drawn.probabilities[-1] == pytest.approx(p.topk(TOP_TOKENS).values.tolist(), rel=1e-5)


def test_a_text_whose_logits_are_not_finite_ends_with_an_error_in_a_run(tiny_ar, monkeypatch):
    engine = create_engine(tiny_ar, backend=Backend.CPU_KERNELS)
    run = engine.backbone.run
    monkeypatch.setattr(engine.backbone, "run", lambda layers, state, *rest: run(layers, state * torch.nan, *rest))
    with pytest.raises(RuntimeError, match="logits are not finite"):
        list(calm.generate(tiny_ar, "word", max_new_tokens=8))
    assert not engine.running or engine.running[0].finished


@torch.inference_mode()
def test_backends_draw_the_same_token_whatever_rows_lie_beside(tiny_ar):
    steps = [make_token_step(tiny_ar.llama, backend) for backend in (Backend.CPU_KERNELS, Backend.PYTORCH)]
    logits = 3 * torch.sin(torch.arange(8 * 4096.0) ** 2).view(8, -1)
    temperatures, uniforms = torch.linspace(0.3, 2, 8), torch.linspace(0, 1 - 1e-9, 8, dtype=torch.float64)
    logits[2, 7], logits[5, 9] = torch.nan, torch.inf
    together, modules = (step.sample(logits, temperatures, uniforms) for step in steps)
    assert together.tokens == modules.tokens and together.tokens[2] == together.tokens[5] == -1
    assert together.tokens.count(-1) == 2
    for row in range(8):
        alone = steps[0].sample(*(numbers[row : row + 1] for numbers in (logits, temperatures, uniforms)))
        assert [numbers[0] for numbers in alone] == [numbers[row] for numbers in together]
