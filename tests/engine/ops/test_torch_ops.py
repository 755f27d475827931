"""Operators for few rows: Triton's on a GPU, else PyTorch's."""

import pytest
import torch
from torch.nn import functional as F

from calm.engine.ops import torch_ops as operators
from calm.engine.ops.selection import select_operators
from calm.engine.ops.types import Linear, Norm

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FORMATS = [torch.float32, torch.bfloat16] if DEVICE == "cuda" else [torch.float32]


@pytest.fixture(params=FORMATS, ids=str)
def make(request):
    """Makes random tensors of a format."""
    torch.manual_seed(0)
    return lambda *shape: torch.randn(*shape, device=DEVICE).to(request.param)


def near(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    tolerance = 1e-4 if actual.dtype == torch.float32 else 5e-2
    return torch.allclose(actual.double(), expected, rtol=tolerance, atol=tolerance)


def expected_norm(x: torch.Tensor, norm: Norm | None) -> torch.Tensor:
    x = x.double()
    if norm is None:
        return x
    if norm.bias is not None:
        x = x - x.mean(-1, keepdim=True)
    x = x / (x.square().mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight.double()
    return x if norm.bias is None else x + norm.bias.double()


def norms(make, width: int) -> list[Norm | None]:
    return [None, Norm(make(width), None, 1e-6), Norm(make(width), make(width), 1e-6)]


@pytest.mark.parametrize("rows, inputs, outputs", [(1, 96, 41), (5, 300, 64), (70, 160, 130)])
def test_a_product_is_normalised_added_to_activated_and_gated(make, rows, inputs, outputs):
    chosen = select_operators(make(1), "silu")
    x = make(rows, 2 * inputs)[:, :inputs]  # rows need not lie side by side
    for norm in norms(make, inputs):
        read = expected_norm(x, norm)
        weight, bias, add = make(2 * outputs, inputs) / inputs**0.5, make(2 * outputs), make(rows, outputs)
        y, up = (read @ weight.double().T + bias.double()).chunk(2, -1)
        half = Linear(weight[:outputs], bias[:outputs])
        assert near(chosen.linear(x, half, norm), y)
        assert near(chosen.linear(x, Linear(half.weight), norm, add=add), y - bias[:outputs].double() + add.double())
        assert near(chosen.linear(x, half, norm, F.silu, add=add), F.silu(y + add.double()))
        assert near(chosen.linear(x, Linear(weight, bias), norm, F.silu, gated=True), F.silu(y) * up)


@pytest.mark.parametrize("heads, kv_heads, width", [(4, 4, 64), (6, 2, 40), (2, 1, 160)])
def test_a_position_attends_to_itself_and_to_those_before_it(make, heads, kv_heads, width):
    positions, slots, capacity = [0, 1, 31, 130, 159], 8, 160
    kinds = heads + 2 * kv_heads
    cos, sin = make(capacity, 1, width).repeat(1, kinds, 1), make(capacity, 1, width).repeat(1, kinds, 1)
    cos[:, heads + kv_heads :], sin[:, heads + kv_heads :] = 1, 0
    qkv, cache = make(len(positions), kinds * width), make(slots, 2 * kv_heads, capacity, width)
    before = cache.clone()
    attended = select_operators(qkv, "silu").attend(qkv, cache, torch.tensor(positions, device=DEVICE), cos, sin)
    for row, position in enumerate(positions):
        now = operators.rotate(qkv[row].view(kinds, width).double(), cos[position].double(), sin[position].double())
        assert near(cache[row, :, position], now[heads:])
        before[row, :, position] = cache[row, :, position]
        past = cache[row, :, : position + 1].double().repeat_interleave(heads // kv_heads, 0)
        keys, values = past.chunk(2)
        weights = (torch.einsum("hw,htw->ht", now[:heads], keys) / width**0.5).softmax(-1)
        assert near(attended[row].view(heads, width), torch.einsum("ht,htw->hw", weights, values))
    assert torch.equal(cache, before)  # the rest is unchanged


@pytest.mark.parametrize("rows", [1, 40, 100])
def test_argmax_returns_the_token_with_the_largest_logit(make, rows):
    x, weight = make(rows, 96), make(700, 96)
    for norm in norms(make, 96)[1:]:
        logits = expected_norm(x, norm) @ weight.double().T
        tokens = select_operators(x, "silu").argmax(x, norm, weight)
        assert near(logits.gather(1, tokens[:, None])[:, 0].to(x.dtype), logits.amax(1))


def test_rows_are_independent_if_the_operators_claim_it(make):
    chosen = select_operators(make(1), "silu")
    assert chosen.ROW_INDEPENDENT is (DEVICE == "cuda")
    if not chosen.ROW_INDEPENDENT:
        return
    for inputs in (96, 1024):
        x, linear = make(64, inputs), Linear(make(512, inputs), make(512))
        for norm in norms(make, inputs):
            whole = chosen.linear(x, linear, norm, F.silu, gated=True)
            for rows in (1, 5, 8, 33):
                assert torch.equal(chosen.linear(x[:rows], linear, norm, F.silu, gated=True), whole[:rows])


def test_pytorch_runs_devices_and_activations_that_triton_does_not_support():
    assert select_operators(torch.ones(1), "silu") is operators
    assert select_operators(torch.ones(1, device=DEVICE), "gelu") is operators
