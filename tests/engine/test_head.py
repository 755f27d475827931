import os
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import numba
import numpy as np
import pytest
import torch
from torch.nn import functional as F

from calm.engine.head import DRAW_BLOCK, SLOTS, CpuHeadStep, CudaGraphHeadStep, HeadStep, make_head_step
from calm.engine.ops import cpu as kernels
from calm.engine.ops.cpu import layers, matrix_unit, model, packing, vocabulary

from .imitated_unit import ImitatedUnit

IMITATED = "IMITATED_UNIT" in os.environ  # in the process of the last test here
if IMITATED:
    matrix_unit._unit = ImitatedUnit()
UNIT = kernels.MATRIX_UNIT or IMITATED


@pytest.fixture(params=["float32", "bfloat16", *["bfloat16, by a matrix unit"] * UNIT])
def drawers(tiny, request, monkeypatch) -> tuple[HeadStep, HeadStep]:
    """The modules of a small model, and the kernels on the same weights, which were in this format on the disk."""
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
def test_kernels_compute_what_the_modules_compute(drawers, count):
    modules, compiled = drawers
    config = modules.model.config
    chunks = torch.arange(4 * count).view(count, 4) % 500
    hidden, noise = rows(count, config.hidden_size), rows(count, config.noise_size) / 2
    states, vectors = modules.project(hidden), rows(count, config.latent_size)
    places = [i * i % count for i in range(count)]
    assert torch.allclose(compiled.embed(chunks), modules.embed(chunks), atol=1e-5)
    assert torch.allclose(compiled.project(hidden), states, atol=1e-5)
    drawn = compiled.vectors(states.contiguous(), places, noise)
    assert torch.allclose(drawn, modules.vectors(states, places, noise), atol=1e-5)
    expected = modules.model.generative_head(hidden[places], noise)
    assert torch.allclose(drawn, expected, atol=1e-5)
    logits = modules.model.ae_model.decoder(vectors)
    chosen = logits.gather(-1, compiled.decode(vectors)[..., None])[..., 0]
    assert torch.allclose(chosen, logits.amax(-1), rtol=0, atol=1e-6)  # either of two that rounding alone tells apart


@pytest.mark.parametrize("count", [1, 6, DRAW_BLOCK, 2 * DRAW_BLOCK + 3])
@torch.inference_mode()
def test_blocks_of_draws_are_those_of_the_modules(drawers, count):
    """What a GPU records, here unrecorded."""
    modules, _ = drawers
    blocks, config = CudaGraphHeadStep(modules.model), modules.model.config
    chunks, hidden = torch.arange(4 * count).view(count, 4) % 500, rows(count, config.hidden_size)
    states, noise = modules.project(hidden), rows(count, config.noise_size) / 2
    assert torch.allclose(blocks.embed(chunks), modules.embed(chunks), atol=1e-5)
    assert torch.allclose(blocks.project(hidden), states, atol=1e-5)
    places = [min(i % 5, i % SLOTS) for i in range(count)][::-1]
    ids, drawn = blocks.draw(states[:SLOTS], places, noise)
    vectors = torch.from_numpy(drawn)
    assert torch.allclose(vectors, modules.vectors(states, places, noise), atol=1e-5)
    assert ids == [tuple(row) for row in modules.decode(vectors).tolist()]


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it(drawers):
    _, compiled = drawers
    config = compiled.model.config
    hidden, noise = rows(64, config.hidden_size), rows(64, config.noise_size)
    states = compiled.project(hidden)
    vectors = compiled.vectors(states, range(64), noise)
    ids = compiled.decode(vectors)
    for first, count in [*((row, 1) for row in range(64)), (3, 5), (0, 8), (7, 11), (20, 23), (1, 63)]:
        some = slice(first, first + count)
        assert torch.equal(compiled.project(hidden[some]), states[some])
        assert torch.equal(compiled.vectors(states, range(first, first + count), noise[some]), vectors[some])
        assert torch.equal(compiled.decode(vectors[some]), ids[some])
    chunks = torch.arange(4 * SLOTS).view(SLOTS, 4)
    assert torch.equal(compiled.embed(chunks)[3:4], compiled.embed(chunks[3:4]))


@torch.inference_mode()
def test_rows_are_the_same_however_many_threads_share_them_out(drawers, monkeypatch):
    config = drawers[1].model.config
    states, noise = drawers[1].project(rows(23, config.hidden_size)), rows(23, config.noise_size)
    found = []
    for threads in (1, 2, 3):
        kernels.use_threads(threads)
        assert kernels.shared(23) == (min(threads, numba.config.NUMBA_NUM_THREADS), 1)
        assert kernels.shared(3) == (1, min(threads, numba.config.NUMBA_NUM_THREADS))
        found.append(drawers[1].vectors(states, range(23), noise))
        found.append(drawers[1].decode(found[0]))
    kernels.use_threads(torch.get_num_threads())
    for vectors, ids in zip(found[2::2], found[3::2]):
        assert torch.equal(vectors, found[0]) and torch.equal(ids, found[1])
    for share in ((4, 1), (5, 1), (1, 4)):  # of a machine of more threads
        monkeypatch.setattr(kernels, "shared", lambda _, share=share: share)
        assert torch.equal(drawers[1].vectors(states, range(23), noise), found[0])
        assert torch.equal(drawers[1].decode(found[0]), found[1])


def imported_by(source: Path) -> set[Path]:
    """The files beside one that it imports, and they in turn."""
    beside = {source.with_name(f"{name}.py") for name in re.findall(r"^from \.(\w+) import", source.read_text(), re.M)}
    return beside.union(*map(imported_by, beside))


@pytest.mark.parametrize("module", [layers, vocabulary, model])
def test_kept_kernels_say_what_they_were_compiled_with(module):
    """Else what numba has kept of them would go on with what is no longer so."""
    files = sorted(imported_by(Path(module.__file__)))
    found = sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    assert found == module.COMPILED_WITH, f"write {found} there"


@pytest.mark.parametrize("outputs, inputs", [(41, 24), (64, 33), (208, 96)])
@pytest.mark.parametrize("pack", ["pack", "pack_halves", *["pack_panels"] * UNIT])
def test_products_of_packed_matrices(outputs, inputs, pack):
    x, weight, add = rows(70, inputs).numpy(), rows(outputs, inputs).numpy(), rows(70, outputs).numpy()
    bias, none = add[0], x[:0]
    packed = getattr(packing, pack)(weight)
    assert packed.ctypes.data % packing.LINE == 0
    if pack != "pack":
        weight = (weight.view(np.uint32) & packing.UPPER).view(np.float32)
    y = x @ weight.T + bias
    more, expected = torch.from_numpy(y + add), (F.silu(torch.from_numpy(y)) * torch.from_numpy(y)).numpy()
    found = layers.linear(x, packed, bias, none, False, 2)
    exact = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    assert np.abs(found - exact).max() < 5e-5  # as by float32, where x in bfloat16 would be off by 0.1
    for threads in (1, 2, 3):
        assert np.allclose(layers.linear(x, packed, bias, add, True, threads), F.silu(more).numpy(), atol=1e-4)
        assert np.allclose(layers.gated(x, packed, bias, packed, bias, threads), expected, atol=1e-4)
        for count in (1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 26):
            assert np.array_equal(layers.linear(x[:count], packed, bias, none, False, threads), found[:count])


@torch.inference_mode()
def test_kernels_bear_activations_whose_exponential_is_beyond_float32():
    x = torch.tensor([[-1e20, -1e4, -200.0, -89.0, -80.0, -1.0, 0.0, 1.0, 200.0, 1e4, 1e20]])
    same = np.eye(x.shape[1], dtype=np.float32)
    activated = layers.linear(x.numpy(), packing.pack(same), 0 * same[0], x.numpy()[:0], True, 1)
    assert torch.allclose(torch.from_numpy(activated), F.silu(x), atol=1e-6)


def embedding_and_states() -> tuple[torch.Tensor, torch.Tensor]:
    """Of 1,111 words, in bfloat16, and 40 states, as a trained decoder's: each but the first near one word's row."""
    generator = torch.Generator().manual_seed(0)
    embedding, states = (torch.randn(n, 64, generator=generator) for n in (1111, 40))
    embedding = (embedding * torch.linspace(2, 0.01, 64)).bfloat16().float()
    states[1:] = 0.3 * states[1:] + 3 * embedding[:39]
    return embedding, states


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("by", ["bounds", *["a matrix unit"] * UNIT])
@torch.inference_mode()
def test_the_likeliest_token_is_found(by, threads):
    embedding, states = embedding_and_states()
    panels = packing.pack_panels(embedding.numpy()), np.int64(len(embedding))
    words = vocabulary.searchable(embedding, states) if by == "bounds" else panels
    for some in (states, states[:3], -states):
        found = torch.from_numpy(vocabulary.likeliest(some.numpy(), threads, words))
        assert torch.equal(found, (some @ embedding.T).argmax(-1))


@torch.inference_mode()
def test_bounds_hold_and_rule_out_most_tokens():
    embedding, states = embedding_and_states()
    arrays = vocabulary.searchable(embedding, states)
    for some, known in ((states, True), (states[:3], True), (-states, False)):
        logits = some @ embedding.T
        bounds = torch.from_numpy(vocabulary.bound(some.numpy(), *arrays[:3]))[:, : len(embedding)]
        assert (bounds >= logits).all()
        if known:  # the basis is made for such states
            assert (bounds[1:] >= logits[1:].amax(-1, keepdim=True)).float().mean() < 0.2


def test_all_this_holds_by_amx_as_well(tmp_path):
    """By a matrix unit in Python, in a process of its own, as what numba compiles for it must not be kept. That process
    runs what has the unit in its name, which this test has not."""
    environment = {**os.environ, "IMITATED_UNIT": "", "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "0"}
    tests = [sys.executable, "-m", "pytest", __file__, "-k", "unit or panels", "-p", "no:cacheprovider"]
    run = subprocess.run(tests, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
