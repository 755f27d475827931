"""The operators of ``calm.operators``, each a single Triton kernel.

With few rows a product takes as long as its weights take to come from memory, or as a kernel takes to start: norm,
bias, sum, activation and gate are done where the product is. A row's numbers do not depend, to the bit, on the other
rows: tiles of few rows have one shape, and no sum is split between programs. Activations are SiLU.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .types import Linear, Norm, TensorFunction

ROW_INDEPENDENT = True
OUTPUTS, INPUTS, WARPS = 32, 128, 2  # of a tile; the warps that compute it
STAGES = 6  # in which tiles are loaded ahead, where shared memory has room for them
FEW = 64  # rows up to which tiles are those of a few rows: as many as 8 chunks of 8 tokens have
POSITIONS, ATTENDING = 128, 8  # of a sequence, attended to at once, and by how many warps


@triton.jit
def _products(x, weight, gain, shift, row, output, rows, inputs, outputs, x_stride, weight_stride, eps,
              NORM: tl.constexpr, GATED: tl.constexpr, INPUTS: tl.constexpr):  # fmt: skip
    """Products of some outputs of a map with some rows of x, normalised, and those of a whole map further on."""
    column = tl.arange(0, INPUTS)
    x_rows, here, there = x + row[:, None] * x_stride, (row < rows)[:, None], (output < outputs)[:, None]
    # Summed over columns at the end: a sum in each turn would make the warps wait for one another.
    total = tl.zeros((row.shape[0], INPUTS), tl.float32)
    squares = tl.zeros_like(total)
    if NORM == "layer":
        for start in range(0, inputs, INPUTS):
            at = start + column[None]
            part = tl.load(x_rows + at, here & (at < inputs), 0.0).to(tl.float32)
            total += part
            squares += part * part
    mean = tl.sum(total, 1) / inputs
    scale = tl.rsqrt(tl.sum(squares, 1) / inputs - mean * mean + eps)
    # Outputs first: the tensor cores take 16 of these, and no fewer, by 8 rows.
    found = tl.zeros((output.shape[0], row.shape[0]), tl.float32)
    further = tl.zeros_like(found)
    for start in range(0, inputs, INPUTS):
        at = start + column[None]
        part = tl.load(x_rows + at, here & (at < inputs), 0.0)
        if NORM != "":
            wide = part.to(tl.float32)
            if NORM == "layer":
                wide = (wide - mean[:, None]) * scale[:, None]
            else:
                squares += wide * wide
            wide *= tl.load(gain + at, at < inputs, 0.0).to(tl.float32)
            if NORM == "layer":
                wide += tl.load(shift + at, at < inputs, 0.0).to(tl.float32)
            part = wide.to(weight.dtype.element_ty)
        matrix = tl.load(weight + output[:, None] * weight_stride + at, there & (at < inputs), 0.0)
        found = tl.dot(matrix, tl.trans(part), found, input_precision="ieee")
        if GATED:
            matrix = tl.load(weight + (output[:, None] + outputs) * weight_stride + at, there & (at < inputs), 0.0)
            further = tl.dot(matrix, tl.trans(part), further, input_precision="ieee")
    if NORM == "rms":
        scale = tl.rsqrt(tl.sum(squares, 1) / inputs + eps)
        found *= scale[None]
        further *= scale[None]
    return found, further


@triton.jit
def _product(x, weight, gain, shift, bias, add, out, rows, inputs, outputs, x_stride, weight_stride, add_stride, eps,
             NORM: tl.constexpr, BIAS: tl.constexpr, ADD: tl.constexpr, ACTIVATED: tl.constexpr, GATED: tl.constexpr,
             ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr):  # fmt: skip
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    found, further = _products(x, weight, gain, shift, row, output, rows, inputs, outputs, x_stride, weight_stride, eps,
                               NORM, GATED, INPUTS)  # fmt: skip
    there = output < outputs
    here = there[:, None] & (row < rows)[None]
    if BIAS:
        found += tl.load(bias + output, there, 0.0).to(tl.float32)[:, None]
        if GATED:
            further += tl.load(bias + outputs + output, there, 0.0).to(tl.float32)[:, None]
    if ADD:
        found += tl.load(add + row[None] * add_stride + output[:, None], here, 0.0).to(tl.float32)
    if ACTIVATED:
        found *= tl.sigmoid(found)
    if GATED:
        found *= further
    tl.store(out + row[None] * outputs + output[:, None], found.to(out.dtype.element_ty), here)


@triton.jit
def _likeliest(x, weight, gain, shift, values, ids, rows, inputs, outputs, x_stride, weight_stride, eps,
               NORM: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr):  # fmt: skip
    """The greatest product of each row with some words, and its word."""
    tile = tl.program_id(0)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tile * OUTPUTS + tl.arange(0, OUTPUTS)
    found, _ = _products(x, weight, gain, shift, row, output, rows, inputs, outputs, x_stride, weight_stride, eps,
                         NORM, False, INPUTS)  # fmt: skip
    found = tl.where((output < outputs)[:, None], found, float("-inf"))
    best, index = tl.max(found, 0, return_indices=True)
    tl.store(values + tile * rows + row, best, row < rows)
    tl.store(ids + tile * rows + row, tile * OUTPUTS + index, row < rows)


@triton.jit
def _attend(qkv, cache, positions, cos, sin, out, heads, kv_heads, qkv_stride, sequence_stride, head_stride,
            turn_stride, scale, WIDTH: tl.constexpr, WITHIN: tl.constexpr, POSITIONS: tl.constexpr):  # fmt: skip
    """One query head of one sequence."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    position, group = tl.load(positions + sequence), heads // kv_heads
    place = tl.arange(0, WITHIN)
    inside, turned = place < WIDTH, (place + WIDTH // 2) % WIDTH
    along = tl.load(cos + position * turn_stride + place, inside, 0.0).to(tl.float32)
    across = tl.load(sin + position * turn_stride + place, inside, 0.0).to(tl.float32)
    mine = qkv + sequence * qkv_stride + head * WIDTH
    query = tl.load(mine + place, inside, 0.0).to(tl.float32) * along
    query += tl.load(mine + turned, inside, 0.0).to(tl.float32) * across
    mine = qkv + sequence * qkv_stride + (heads + head // group) * WIDTH
    key = tl.load(mine + place, inside, 0.0).to(tl.float32) * along
    key += tl.load(mine + turned, inside, 0.0).to(tl.float32) * across
    kept, value = key.to(cache.dtype.element_ty), tl.load(mine + kv_heads * WIDTH + place, inside, 0.0)
    keys = cache + sequence * sequence_stride + head // group * head_stride
    values = keys + kv_heads * head_stride
    if head % group == 0:
        tl.store(keys + position * WIDTH + place, kept, inside)
        tl.store(values + position * WIDTH + place, value, inside)
    # Its own position is at hand, those before it come from the cache; sums are scaled anew as a higher score appears.
    best = tl.sum(query * kept.to(tl.float32), 0) * scale
    total, found = 1.0, value.to(tl.float32)
    for start in range(0, position, POSITIONS):
        at = start + tl.arange(0, POSITIONS)
        seen = at < position
        where, valid = at[:, None] * WIDTH + place[None], seen[:, None] & inside[None]
        score = tl.sum(query[None] * tl.load(keys + where, valid, 0.0).to(tl.float32), 1) * scale
        score = tl.where(seen, score, float("-inf"))
        higher = tl.maximum(best, tl.max(score, 0))
        shrink, share = tl.exp(best - higher), tl.exp(score - higher)
        total = total * shrink + tl.sum(share, 0)
        found = found * shrink + tl.sum(share[:, None] * tl.load(values + where, valid, 0.0).to(tl.float32), 0)
        best = higher
    tl.store(out + (sequence * heads + head) * WIDTH + place, (found / total).to(out.dtype.element_ty), inside)


def _norm(norm: Norm | None, x: Tensor) -> tuple[str, Tensor, Tensor, float]:
    """The kind of a norm, weight, bias (anything where there is none) and eps."""
    if norm is None:
        return "", x, x, 0.0
    weight, bias, eps = norm
    return ("rms", weight, weight, eps) if bias is None else ("layer", weight, bias, eps)


@cache
def _shared_memory(device: torch.device) -> int:
    """Bytes that a program may have."""
    return triton.runtime.driver.active.utils.get_device_properties(device.index or 0)["max_shared_mem"]


def _tile(x: Tensor) -> dict[str, int]:
    """How a tile is computed."""
    rows, warps = (8, WARPS) if len(x) <= FEW else (32, 2 * WARPS)
    inputs = min(INPUTS, max(16, triton.next_power_of_2(x.shape[1])))
    stage = (2 * OUTPUTS + rows) * inputs * x.element_size()  # of a gated map
    stages = max(1, min(STAGES, _shared_memory(x.device) // stage - 1))
    return {"ROWS": rows, "INPUTS": inputs, "num_warps": warps, "num_stages": stages}


def linear(
    x: Tensor,
    weights: Linear,
    norm: Norm | None = None,
    activation: TensorFunction | None = None,
    gated: bool = False,
    add: Tensor | None = None,
) -> Tensor:
    """As ``operators.product``, whose activation is SiLU if there is any."""
    (rows, inputs), (weight, bias) = x.shape, weights
    outputs = len(weight) // 2 if gated else len(weight)
    kind, gain, shift, eps = _norm(norm, x)
    out, tile = x.new_empty(rows, outputs), _tile(x)
    _product[triton.cdiv(outputs, OUTPUTS), triton.cdiv(rows, tile["ROWS"])](
        x, weight, gain, shift, x if bias is None else bias, x if add is None else add, out, rows, inputs, outputs,
        x.stride(0), weight.stride(0), 0 if add is None else add.stride(0), eps, NORM=kind, BIAS=bias is not None,
        ADD=add is not None, ACTIVATED=activation is not None, GATED=gated, OUTPUTS=OUTPUTS, **tile,
    )  # fmt: skip
    return out


def attend(qkv: Tensor, cache: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """As ``operators.attend``."""
    kv, width = cache.shape[1] // 2, cache.shape[3]
    heads = cos.shape[1] - 2 * kv
    out = qkv.new_empty(len(qkv), heads * width)
    _attend[len(qkv), heads](
        qkv, cache, positions, cos, sin, out, heads, kv, qkv.stride(0), cache.stride(0), cache.stride(1), cos.stride(0),
        width**-0.5, WIDTH=width, WITHIN=triton.next_power_of_2(width), POSITIONS=POSITIONS, num_warps=ATTENDING,
    )  # fmt: skip
    return out


def argmax(x: Tensor, norm: Norm, weight: Tensor) -> Tensor:
    """As ``operators.likeliest``."""
    (rows, inputs), words = x.shape, len(weight)
    kind, gain, shift, eps = _norm(norm, x)
    tiles, tile = triton.cdiv(words, OUTPUTS), _tile(x)
    values = torch.empty(tiles, rows, device=x.device)
    ids = torch.empty(tiles, rows, device=x.device, dtype=torch.long)
    _likeliest[tiles, triton.cdiv(rows, tile["ROWS"])](
        x, weight, gain, shift, values, ids, rows, inputs, words, x.stride(0), weight.stride(0), eps, NORM=kind,
        OUTPUTS=OUTPUTS, **tile,
    )  # fmt: skip
    return ids.gather(0, values.max(0).indices[None])[0]
