import numba
import numpy as np
import pytest
import torch

from calm.engine.head import (
    DRAW_BLOCK,
    POOL_BLOCK,
    SLOTS,
    CpuHeadStep,
    CudaGraphHeadStep,
    HeadStep,
    ModuleHeadStep,
    make_head_step,
)
from calm.engine.ops import cpu as kernels
from calm.engine.ops.selection import Backend

from .ops.cpu.emulated_unit import HAS_UNIT


@pytest.fixture(params=["float32", "bfloat16", *["bfloat16, by a matrix unit"] * HAS_UNIT])
def head_steps(tiny, request, monkeypatch) -> tuple[HeadStep, HeadStep]:
    """A small model by its modules and by the kernels, with weights that were stored in a format."""
    stored, unit = request.param.split(",")[0], "unit" in request.param
    monkeypatch.setattr(kernels, "MATRIX_UNIT", unit)
    model = tiny(4).calm.to(getattr(torch, stored)).float()
    compiled = make_head_step(model)
    assert isinstance(compiled, CpuHeadStep)
    weights = compiled.blocks[2]  # [blocks, ...]
    assert (weights.dtype == "uint32", weights.ndim == 5) == (stored == "bfloat16", unit)
    return HeadStep(model), compiled


def rows(count: int, width: int) -> torch.Tensor:
    return torch.sin(torch.arange(float(count * width)) * 0.7).view(count, width)


@pytest.mark.parametrize("count", [*range(1, SLOTS + 2), 23, 64, 201])
@torch.inference_mode()
def test_kernels_compute_what_the_modules_compute(head_steps, count):
    modules, compiled = head_steps
    config = modules.model.config
    chunks = torch.arange(4 * count).view(count, 4) % 500
    hidden, noise = rows(count, config.hidden_size), rows(count, config.noise_size) / 2
    states = modules.project(hidden)
    draw_rows = [i * i % count for i in range(count)]
    assert torch.allclose(compiled.embed(chunks), modules.embed(chunks), atol=1e-5)
    assert torch.allclose(compiled.project(hidden), states, atol=1e-5)
    ids, vectors = compiled.draw(states.contiguous(), draw_rows, noise)
    drawn = torch.from_numpy(vectors)
    assert torch.allclose(drawn, modules.vectors(states, draw_rows, noise), atol=1e-5)
    expected = modules.model.generative_head(hidden[draw_rows], noise)
    assert torch.allclose(drawn, expected, atol=1e-5)
    logits = modules.model.ae_model.decoder(drawn)
    chosen = logits.gather(-1, torch.tensor(ids)[..., None])[..., 0]
    assert torch.allclose(chosen, logits.amax(-1), rtol=0, atol=1e-6)  # two logits may differ by rounding alone


@pytest.mark.parametrize("count", [1, 6, DRAW_BLOCK, 2 * DRAW_BLOCK + 3])
@torch.inference_mode()
def test_blocks_of_draws_are_those_of_the_modules(head_steps, count):
    """The CUDA graphs' steps, here on a CPU."""
    modules, _ = head_steps
    blocks, config = CudaGraphHeadStep(modules.model), modules.model.config
    chunks, hidden = torch.arange(4 * count).view(count, 4) % 500, rows(count, config.hidden_size)
    states, noise = modules.project(hidden), rows(count, config.noise_size) / 2
    assert torch.allclose(blocks.embed(chunks), modules.embed(chunks), atol=1e-5)
    assert torch.allclose(blocks.project(hidden), states, atol=1e-5)
    draw_rows = [min(i % 5, i % SLOTS) for i in range(count)][::-1]
    ids, drawn = blocks.draw(states[:SLOTS], draw_rows, noise)
    vectors = torch.from_numpy(drawn)
    assert torch.allclose(vectors, modules.vectors(states, draw_rows, noise), atol=1e-5)
    assert ids == [tuple(row) for row in modules.decode(vectors).tolist()]


@pytest.mark.parametrize("head", ["energy", "diffusion", "flow"])
@torch.inference_mode()
def test_draws_by_modules_do_not_depend_on_those_beside_them(tiny, head):
    model = (tiny(4) if head == "energy" else tiny(4, head=head, num_sampling_steps=4)).calm
    modules, step = HeadStep(model), make_head_step(model, Backend.PYTORCH)
    assert isinstance(step, ModuleHeadStep)
    states = step.project(rows(SLOTS, model.config.hidden_size))
    counts = [1, 3, DRAW_BLOCK, POOL_BLOCK + 40, 1]
    draw_rows = [row for row, count in enumerate(counts) for _ in range(count)][::-1]
    noise = step.head.noise((len(draw_rows),), states, torch.Generator().manual_seed(0))
    ids, drawn = step.draw(states, draw_rows, noise)
    expected = modules.vectors(states, draw_rows, noise).numpy()
    assert np.allclose(drawn, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())
    assert ids == [tuple(row) for row in modules.decode(torch.from_numpy(drawn)).tolist()]
    for row in range(len(counts)):
        own = [i for i, draw_row in enumerate(draw_rows) if draw_row == row]
        alone = step.draw(states[row : row + 1], [0] * len(own), noise[own])
        assert alone[0] == [ids[i] for i in own] and np.array_equal(alone[1], drawn[own])


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it(head_steps):
    _, compiled = head_steps
    config = compiled.model.config
    hidden, noise = rows(64, config.hidden_size), rows(64, config.noise_size)
    states = compiled.project(hidden)
    ids, vectors = compiled.draw(states, range(64), noise)
    for first, count in [*((row, 1) for row in range(64)), (3, 5), (0, 8), (7, 11), (20, 23), (1, 63)]:
        some = slice(first, first + count)
        assert torch.equal(compiled.project(hidden[some]), states[some])
        some_ids, some_vectors = compiled.draw(states, range(first, first + count), noise[some])
        assert np.array_equal(some_vectors, vectors[some]) and some_ids == ids[some]
    chunks = torch.arange(4 * SLOTS).view(SLOTS, 4)
    assert torch.equal(compiled.embed(chunks)[3:4], compiled.embed(chunks[3:4]))


@torch.inference_mode()
def test_rows_do_not_depend_on_the_number_of_threads(head_steps, monkeypatch):
    config = head_steps[1].model.config
    states, noise = head_steps[1].project(rows(23, config.hidden_size)), rows(23, config.noise_size)
    results: list = []
    for threads in (1, 2, 3):
        kernels.use_threads(threads)
        assert kernels.split_work(23) == (min(threads, numba.config.NUMBA_NUM_THREADS), 1)
        assert kernels.split_work(3) == (1, min(threads, numba.config.NUMBA_NUM_THREADS))
        results.append(head_steps[1].draw(states, range(23), noise))
    kernels.use_threads(torch.get_num_threads())
    for split in ((4, 1), (5, 1), (1, 4)):  # as on a machine with more threads
        monkeypatch.setattr(kernels, "split_work", lambda _, split=split: split)
        results.append(head_steps[1].draw(states, range(23), noise))
    for ids, vectors in results[1:]:
        assert ids == results[0][0] and np.array_equal(vectors, results[0][1])
