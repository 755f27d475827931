"""The operators of ``torch_ops``, each a single Triton kernel. Activations are SiLU.

With few rows, reading the weights from memory or launching the kernel takes most of the time of a linear layer. The
kernel therefore also computes the norm before it, and the bias, sum, activation and gate after it. A row's result does
not depend, to the bit, on the other rows: tiles of few rows have one shape, and each sum stays in one program.
"""

from functools import cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from .types import Linear, Norm, TensorFunction

ROW_INDEPENDENT = True
OUTPUTS, INPUTS, WARPS = 32, 128, 2  # the shape of a tile, and the warps that compute it
STAGES = 6  # stages of the software pipeline that preloads tiles, if shared memory has room
FEW_ROWS = 64  # up to this many rows, tiles have 8 rows; 64 covers 8 chunks of 8 tokens
POSITIONS, ATTENTION_WARPS = 128, 8  # positions that attention reads at once, and its warps


@triton.jit
def _tile_products(x, weight, gain, shift, row, output, rows, inputs, outputs, x_stride, weight_stride, eps,
                   NORM: tl.constexpr, GATED: tl.constexpr, INPUTS: tl.constexpr):  # fmt: skip
    """The products of some rows of x, normalised, with some outputs of a map; and with the same outputs of the map's
    second half, if it is gated."""
    column = tl.arange(0, INPUTS)
    x_rows, row_mask, output_mask = x + row[:, None] * x_stride, (row < rows)[:, None], (output < outputs)[:, None]
    # Sums over columns come last: a sum in each iteration would synchronise the warps.
    total = tl.zeros((row.shape[0], INPUTS), tl.float32)
    squares = tl.zeros_like(total)
    if NORM == "layer":
        for start in range(0, inputs, INPUTS):
            at = start + column[None]
            part = tl.load(x_rows + at, row_mask & (at < inputs), 0.0).to(tl.float32)
            total += part
            squares += part * part
    mean = tl.sum(total, 1) / inputs
    scale = tl.rsqrt(tl.sum(squares, 1) / inputs - mean * mean + eps)
    # Outputs are the first dimension: tensor cores take at least 16 of it, and 8 of the second.
    products = tl.zeros((output.shape[0], row.shape[0]), tl.float32)
    second = tl.zeros_like(products)
    for start in range(0, inputs, INPUTS):
        at = start + column[None]
        part = tl.load(x_rows + at, row_mask & (at < inputs), 0.0)
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
        tile = tl.load(weight + output[:, None] * weight_stride + at, output_mask & (at < inputs), 0.0)
        products = tl.dot(tile, tl.trans(part), products, input_precision="ieee")
        if GATED:
            tile = tl.load(weight + (output[:, None] + outputs) * weight_stride + at, output_mask & (at < inputs), 0.0)
            second = tl.dot(tile, tl.trans(part), second, input_precision="ieee")
    if NORM == "rms":
        scale = tl.rsqrt(tl.sum(squares, 1) / inputs + eps)
        products *= scale[None]
        second *= scale[None]
    return products, second


@triton.jit
def _linear_kernel(x, weight, gain, shift, bias, add, out, rows, inputs, outputs, x_stride, weight_stride, add_stride,
                   eps, NORM: tl.constexpr, BIAS: tl.constexpr, ADD: tl.constexpr, ACTIVATED: tl.constexpr,
                   GATED: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr):  # fmt: skip
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    y, second = _tile_products(x, weight, gain, shift, row, output, rows, inputs, outputs, x_stride, weight_stride, eps,
                               NORM, GATED, INPUTS)  # fmt: skip
    output_mask = output < outputs
    mask = output_mask[:, None] & (row < rows)[None]
    if BIAS:
        y += tl.load(bias + output, output_mask, 0.0).to(tl.float32)[:, None]
        if GATED:
            second += tl.load(bias + outputs + output, output_mask, 0.0).to(tl.float32)[:, None]
    if ADD:
        y += tl.load(add + row[None] * add_stride + output[:, None], mask, 0.0).to(tl.float32)
    if ACTIVATED:
        y *= tl.sigmoid(y)
    if GATED:
        y *= second
    tl.store(out + row[None] * outputs + output[:, None], y.to(out.dtype.element_ty), mask)


@triton.jit
def _argmax_kernel(x, weight, gain, shift, values, ids, rows, inputs, outputs, x_stride, weight_stride, eps,
                   NORM: tl.constexpr, ROWS: tl.constexpr, OUTPUTS: tl.constexpr, INPUTS: tl.constexpr):  # fmt: skip
    """The largest logit of each row among the tokens of one tile, and its token."""
    tile = tl.program_id(0)
    row = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    output = tile * OUTPUTS + tl.arange(0, OUTPUTS)
    logits, _ = _tile_products(x, weight, gain, shift, row, output, rows, inputs, outputs, x_stride, weight_stride, eps,
                               NORM, False, INPUTS)  # fmt: skip
    logits = tl.where((output < outputs)[:, None], logits, float("-inf"))
    best, index = tl.max(logits, 0, return_indices=True)
    tl.store(values + tile * rows + row, best, row < rows)
    tl.store(ids + tile * rows + row, tile * OUTPUTS + index, row < rows)


@triton.jit
def _attention_kernel(qkv, cache, positions, cos, sin, out, heads, kv_heads, qkv_stride, sequence_stride, head_stride,
                      rotary_stride, scale, WIDTH: tl.constexpr, PADDED_WIDTH: tl.constexpr,
                      POSITIONS: tl.constexpr):  # fmt: skip
    """One query head of one sequence."""
    sequence, head = tl.program_id(0), tl.program_id(1)
    position, group = tl.load(positions + sequence), heads // kv_heads
    lane = tl.arange(0, PADDED_WIDTH)
    lane_mask, rotated_lane = lane < WIDTH, (lane + WIDTH // 2) % WIDTH
    cos_row = tl.load(cos + position * rotary_stride + lane, lane_mask, 0.0).to(tl.float32)
    sin_row = tl.load(sin + position * rotary_stride + lane, lane_mask, 0.0).to(tl.float32)
    own = qkv + sequence * qkv_stride + head * WIDTH
    query = tl.load(own + lane, lane_mask, 0.0).to(tl.float32) * cos_row
    query += tl.load(own + rotated_lane, lane_mask, 0.0).to(tl.float32) * sin_row
    own = qkv + sequence * qkv_stride + (heads + head // group) * WIDTH
    key = tl.load(own + lane, lane_mask, 0.0).to(tl.float32) * cos_row
    key += tl.load(own + rotated_lane, lane_mask, 0.0).to(tl.float32) * sin_row
    cached_key = key.to(cache.dtype.element_ty)
    value = tl.load(own + kv_heads * WIDTH + lane, lane_mask, 0.0)
    keys = cache + sequence * sequence_stride + head // group * head_stride
    values = keys + kv_heads * head_stride
    if head % group == 0:
        tl.store(keys + position * WIDTH + lane, cached_key, lane_mask)
        tl.store(values + position * WIDTH + lane, value, lane_mask)
    # The own position comes from registers, earlier ones from the cache. Sums are rescaled whenever the maximum grows.
    best = tl.sum(query * cached_key.to(tl.float32), 0) * scale
    total, attended = 1.0, value.to(tl.float32)
    for start in range(0, position, POSITIONS):
        at = start + tl.arange(0, POSITIONS)
        visible = at < position
        offset, mask = at[:, None] * WIDTH + lane[None], visible[:, None] & lane_mask[None]
        score = tl.sum(query[None] * tl.load(keys + offset, mask, 0.0).to(tl.float32), 1) * scale
        score = tl.where(visible, score, float("-inf"))
        higher = tl.maximum(best, tl.max(score, 0))
        rescale, weight = tl.exp(best - higher), tl.exp(score - higher)
        total = total * rescale + tl.sum(weight, 0)
        cached_values = tl.load(values + offset, mask, 0.0).to(tl.float32)
        attended = attended * rescale + tl.sum(weight[:, None] * cached_values, 0)
        best = higher
    tl.store(out + (sequence * heads + head) * WIDTH + lane, (attended / total).to(out.dtype.element_ty), lane_mask)


def _norm_arguments(norm: Norm | None, x: Tensor) -> tuple[str, Tensor, Tensor, float]:
    """The kind of a norm, its weight, bias and epsilon; x fills the arguments that the kind lacks."""
    if norm is None:
        return "", x, x, 0.0
    weight, bias, eps = norm
    return ("rms", weight, weight, eps) if bias is None else ("layer", weight, bias, eps)


@cache
def _shared_memory(device: torch.device) -> int:
    """Bytes of shared memory that a program may use."""
    return triton.runtime.driver.active.utils.get_device_properties(device.index or 0)["max_shared_mem"]


def _tile_shape(x: Tensor) -> dict[str, int]:
    """The shape of a tile and how it is computed, as arguments of a kernel."""
    rows, warps = (8, WARPS) if len(x) <= FEW_ROWS else (32, 2 * WARPS)
    inputs = min(INPUTS, max(16, triton.next_power_of_2(x.shape[1])))
    stage_bytes = (2 * OUTPUTS + rows) * inputs * x.element_size()  # for a gated map
    stages = max(1, min(STAGES, _shared_memory(x.device) // stage_bytes - 1))
    return {"ROWS": rows, "INPUTS": inputs, "num_warps": warps, "num_stages": stages}


def linear(
    x: Tensor,
    weights: Linear,
    norm: Norm | None = None,
    activation: TensorFunction | None = None,
    gated: bool = False,
    add: Tensor | None = None,
) -> Tensor:
    """Like ``torch_ops.linear``; an activation must be SiLU."""
    (rows, inputs), (weight, bias) = x.shape, weights
    outputs = len(weight) // 2 if gated else len(weight)
    kind, gain, shift, eps = _norm_arguments(norm, x)
    out, tile = x.new_empty(rows, outputs), _tile_shape(x)
    _linear_kernel[triton.cdiv(outputs, OUTPUTS), triton.cdiv(rows, tile["ROWS"])](
        x, weight, gain, shift, x if bias is None else bias, x if add is None else add, out, rows, inputs, outputs,
        x.stride(0), weight.stride(0), 0 if add is None else add.stride(0), eps, NORM=kind, BIAS=bias is not None,
        ADD=add is not None, ACTIVATED=activation is not None, GATED=gated, OUTPUTS=OUTPUTS, **tile,
    )  # fmt: skip
    return out


def attend(qkv: Tensor, cache: Tensor, positions: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Like ``torch_ops.attend``."""
    kv, width = cache.shape[1] // 2, cache.shape[3]
    heads = cos.shape[1] - 2 * kv
    out = qkv.new_empty(len(qkv), heads * width)
    _attention_kernel[len(qkv), heads](
        qkv, cache, positions, cos, sin, out, heads, kv, qkv.stride(0), cache.stride(0), cache.stride(1), cos.stride(0),
        width**-0.5, WIDTH=width, PADDED_WIDTH=triton.next_power_of_2(width), POSITIONS=POSITIONS,
        num_warps=ATTENTION_WARPS,
    )  # fmt: skip
    return out


def argmax(x: Tensor, norm: Norm, weight: Tensor) -> Tensor:
    """Like ``torch_ops.argmax``."""
    (rows, inputs), tokens = x.shape, len(weight)
    kind, gain, shift, eps = _norm_arguments(norm, x)
    tiles, tile = triton.cdiv(tokens, OUTPUTS), _tile_shape(x)
    values = torch.empty(tiles, rows, device=x.device)
    ids = torch.empty(tiles, rows, device=x.device, dtype=torch.long)
    _argmax_kernel[tiles, triton.cdiv(rows, tile["ROWS"])](
        x, weight, gain, shift, values, ids, rows, inputs, tokens, x.stride(0), weight.stride(0), eps, NORM=kind,
        OUTPUTS=OUTPUTS, **tile,
    )  # fmt: skip
    return ids.gather(0, values.max(0).indices[None])[0]
