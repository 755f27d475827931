from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from calm.engine.ops.cpu import layers, packing
from calm.engine.ops.cpu.team import new_team

from ...test_head import rows
from .emulated_unit import HAS_UNIT


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, add: np.ndarray, activated: bool, threads: int):
    y = np.empty((len(x), len(bias)), np.float32)
    layers.linear(x, weight, bias, add, activated, threads, y)
    return y


@pytest.mark.parametrize("outputs, inputs", [(41, 24), (64, 33), (208, 96)])
@pytest.mark.parametrize("pack", ["pack_float32", "pack_bfloat16", *["pack_panels"] * HAS_UNIT])
def test_products_of_packed_matrices(outputs, inputs, pack):
    x, weight, add = rows(70, inputs).numpy(), rows(outputs, inputs).numpy(), rows(70, outputs).numpy()
    bias, empty = add[0], x[:0]
    packed = getattr(packing, pack)(weight)
    assert packed.ctypes.data % packing.CACHE_LINE == 0
    if pack != "pack_float32":
        weight = (weight.view(np.uint32) & packing.UPPER_HALF).view(np.float32)
    y = x @ weight.T + bias
    added, gated = torch.from_numpy(y + add), (F.silu(torch.from_numpy(y)) * torch.from_numpy(y)).numpy()
    product, shared = linear(x, packed, bias, empty, False, 2), np.empty_like(y)
    layers.share_gated(new_team(1)[0], x, packed, bias, packed, bias, shared)
    assert np.allclose(shared, gated, atol=1e-4)
    exact = x.astype(np.float64) @ weight.T.astype(np.float64) + bias
    assert np.abs(product - exact).max() < 5e-5  # as precise as float32; with x in bfloat16 it would be 0.1
    for threads in (1, 2, 3):
        assert np.allclose(linear(x, packed, bias, add, True, threads), F.silu(added).numpy(), atol=1e-4)
        for count in (1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 26):
            assert np.array_equal(linear(x[:count], packed, bias, empty, False, threads), product[:count])


def test_threads_that_come_late_or_never_leave_their_share_to_others():
    x, weight, bias = rows(8, 64).numpy(), rows(512, 64).numpy(), rows(1, 512).numpy()[0]
    packed, count = packing.pack_float32(weight), 20
    expected = linear(x, packed, bias, x[:0], False, 1)
    teams, results = [new_team(2) for _ in range(count)], np.zeros((count, 2, 8, 512), np.float32)

    def share(_) -> None:
        for team, result in zip(teams, results):
            layers.share_linear(team[0], x, packed, bias, x[:0], np.bool_(False), result[0])
            layers.share_linear(team[1], x, packed, bias, result[0], np.bool_(False), result[1])

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(share, range(4)))
    assert all(np.array_equal(first, expected) and np.array_equal(second, 2 * expected) for first, second in results)


@torch.inference_mode()
def test_activations_whose_exponential_exceeds_float32():
    x = torch.tensor([[-1e20, -1e4, -200.0, -89.0, -80.0, -1.0, 0.0, 1.0, 200.0, 1e4, 1e20]])
    identity = np.eye(x.shape[1], dtype=np.float32)
    activated = linear(x.numpy(), packing.pack_float32(identity), 0 * identity[0], x.numpy()[:0], True, 1)
    assert torch.allclose(torch.from_numpy(activated), F.silu(x), atol=1e-6)
