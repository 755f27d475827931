import pytest
import torch

from calm.engine.head import SLOTS
from calm.engine.ops import cpu as kernels
from calm.engine.token_step import CpuTokenStep, TokenStep, make_token_step

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
