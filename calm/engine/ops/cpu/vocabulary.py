"""The argmax over the vocabulary: by bounds that rule out most logits, or by all logits where bounds rule out too few.

Bounds suit a trained decoder, whose largest logit stands out. R rows, H width of a state, V vocabulary.
"""

import numpy as np
import torch
from numba import prange
from numba.extending import overload
from numpy import ndarray
from torch import Tensor

from .arithmetic import maximum
from .compilation import ZERO, parallel, part_bounds, serial, stored
from .packing import GROUP, LANES, pack_float32
from .products import begin_products, count_groups, end_products, multiply, product

MAX_SHARE_LEFT = 0.02  # of the tokens, after the bounds; with more, computing all logits is faster
MEASURED_STATES = 64  # states on which that share is measured
SLACK = 2e-3  # added to each length, relative to it; its square exceeds the rounding error of a bound
BLOCK = 64  # tokens that a bound rules out together
SPAN = 4  # groups of blocks whose largest logit is searched at once


def vocabulary_bounds(embedding: Tensor, states: Tensor) -> tuple | None:
    """embedding [V, H] -> the arrays by which ``argmax`` avoids most logits: packed basis, packed table, slack, and
    the embedding. None if the bounds leave more than ``MAX_SHARE_LEFT`` of the tokens.

    In a basis that covers most of the embedding and of the decoder's states, a quarter of the coordinates and the norm
    of the remainder bound each logit from above (Cauchy-Schwarz). One exact logit then mostly rules out all others.
    ``states`` [n, H] are typical states of the decoder, from which the basis is computed.
    """
    covariances = [x.T @ x / x.square().sum() for x in (embedding, states)]
    directions = torch.linalg.eigh(covariances[0] + covariances[1]).eigenvectors.flip(1)
    basis = directions[:, : max(1, embedding.shape[1] // 4 - 1)].T.contiguous()
    table, some = _bound_coordinates(embedding, basis), states[:MEASURED_STATES]
    largest = (some @ embedding.T).amax(-1, keepdim=True)
    if (_bound_coordinates(some, basis) @ table.T >= largest).float().mean() > MAX_SHARE_LEFT:
        return None
    return *(pack_float32(matrix.numpy()) for matrix in (basis, table)), np.float32(SLACK), embedding.numpy()


def _bound_coordinates(x: Tensor, basis: Tensor) -> Tensor:
    """Rows x [n, H], basis [Q, H] -> [n, Q + 1], whose products are upper bounds of the products of the rows."""
    coordinates, square = x @ basis.T, x.square().sum(-1, keepdim=True)
    remainder = (square - coordinates.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
    return torch.cat((coordinates, remainder + SLACK * square.sqrt()), -1)


@serial
def _argmax_below(bounds, state, embedding):
    """bounds [V or more], at least the logits of state [H] with embedding [V, H] -> the token with the largest logit,
    the first of equal ones. Only the logits that their bounds do not rule out are computed."""
    tokens = len(embedding)
    blocks = (tokens + BLOCK - 1) // BLOCK
    highest, bits = np.empty(blocks, np.float32), bounds.view(np.int32)
    for b in range(blocks):
        highest[b] = maximum(bits[b * BLOCK : min((b + 1) * BLOCK, tokens)])
    # The block with the largest bound comes first: its largest logit mostly rules out all other blocks.
    first, best, largest = int(highest.argmax()), 0, np.float32(-np.inf)
    for i in range(blocks + 1):
        b = first if i == 0 else i - 1
        if highest[b] < largest or (i and b == first):
            continue
        part = bounds[b * BLOCK : min((b + 1) * BLOCK, tokens)]
        for v in range(len(part)):
            if part[v] >= largest:
                row, logit = embedding[b * BLOCK + v], np.float32(0)
                for j in range(len(state)):
                    logit += state[j] * row[j]
                if logit > largest or (logit == largest and b * BLOCK + v < best):
                    best, largest = b * BLOCK + v, logit
    return best


@stored
def logit_bounds(x, basis, table, slack):
    """States x [R, H], the arrays of ``vocabulary_bounds`` -> upper bounds of the logits [R, V or more]."""
    rows, size = x.shape[0], table.shape[1] - 1
    coordinates, y = product(x, basis), np.empty((rows, size + 1), np.float32)
    for r in range(rows):
        square, covered = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            square += x[r, i] * x[r, i]
        for q in range(size):
            y[r, q] = coordinates[r, q]
            covered += coordinates[r, q] * coordinates[r, q]
        y[r, size] = np.sqrt(max(square - covered, np.float32(0))) + slack * np.sqrt(square)
    return product(y, table)


@serial
def _argmax_of_rows(x, basis, table, slack, embedding, best, first, count):
    rows = x[first : first + count]
    bounds = logit_bounds(rows, basis, table, slack)
    for r in range(len(rows)):
        best[first + r] = _argmax_below(bounds[r], rows[r], embedding)


@parallel
def _argmax_by_bounds(x, threads, basis, table, slack, embedding):
    """A few rows at a time, so that their bounds stay in the nearest cache."""
    count = 8 if len(x) > 16 else 4
    best = np.empty(len(x), np.int64)
    if threads == 1:
        for first in range(0, len(x), count):
            _argmax_of_rows(x, basis, table, slack, embedding, best, first, count)
    else:
        for part in prange((len(x) + count - 1) // count):
            _argmax_of_rows(x, basis, table, slack, embedding, best, np.int64(count * part), count)
    return best


@serial
def _argmax_of_groups(x, embedding, tokens, start, end, logits, best):
    """Writes the largest logits [R] of x [R, H] among the tokens of some groups, and those tokens [R]."""
    operand, y = begin_products(x, embedding), np.empty((len(x), SPAN * GROUP * LANES), np.float32)
    for first in range(start, end, SPAN):
        panels = embedding[first * GROUP : min(first + SPAN, end) * GROUP]
        for group in range(count_groups(panels)):
            multiply(operand, panels, y, group)
        token = first * GROUP * LANES
        for r in range(len(x)):
            row = y[r, : min(len(panels) * LANES, tokens - token)]
            highest, v = maximum(row.view(np.int32)), 0
            if first == start or highest > logits[r]:
                while v < len(row) - 1 and row[v] != highest:
                    v += 1
                logits[r], best[r] = highest, token + v
    end_products(embedding)


@parallel
def _argmax_by_logits(x, threads, embedding, tokens):
    """By all logits, a few groups of tokens at a time; the threads split the tokens."""
    groups = count_groups(embedding)
    parts = min(groups, threads)
    logits, best = np.empty((parts, len(x)), np.float32), np.empty((parts, len(x)), np.int64)
    if parts == 1:
        _argmax_of_groups(x, embedding, tokens, ZERO, groups, logits[0], best[0])
    else:
        for part in prange(parts):
            start, end = part_bounds(np.int64(part), parts, groups)
            _argmax_of_groups(x, embedding, tokens, start, end, logits[part], best[part])
    for r in range(len(x)):
        for part in range(1, parts):
            if logits[part, r] > logits[0, r]:
                logits[0, r], best[0, r] = logits[part, r], best[part, r]
    return best[0]


def _argmax(x, threads, vocabulary):
    """``argmax``, by the kind of the vocabulary's arrays."""


@overload(_argmax)
def _argmax_overload(x, threads, vocabulary):
    if len(vocabulary) == 2:
        return lambda x, threads, vocabulary: _argmax_by_logits(x, threads, *vocabulary)
    return lambda x, threads, vocabulary: _argmax_by_bounds(x, threads, *vocabulary)


@stored
def argmax(x: ndarray, threads: int, vocabulary: tuple) -> ndarray:
    """States x [R, H] -> for each the token with the largest logit [R], the first of equal ones. The vocabulary is the
    output matrix: the arrays of ``vocabulary_bounds``, or its packed weight and V."""
    return _argmax(x, threads, vocabulary)
