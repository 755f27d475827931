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
from .compilation import serial, stored_parallel
from .packing import GROUP, LANES, pack_float32
from .products import begin_products, count_groups, end_products, multiply, product
from .team import claim, finish, new_team

MAX_SHARE_LEFT = 0.02  # of the tokens, after the bounds; with more, computing all logits is faster
MEASURED_STATES = 64  # states on which that share is measured
SLACK = 2e-3  # added to each length, relative to it; its square exceeds the rounding error of a bound
BLOCK = 64  # tokens that a bound rules out together
SPAN = 4  # groups of blocks that a thread computes at a time
SLAB = 8  # states whose bounds are computed together: so few bounds stay in the nearest cache


def vocabulary_bounds(embedding: Tensor, states: Tensor, max_share_left: float = MAX_SHARE_LEFT) -> tuple | None:
    """embedding [V, H] -> the arrays by which ``argmax`` avoids most logits: packed basis, packed table, slack, and
    the embedding. None if the bounds leave more than ``max_share_left`` of the tokens.

    In a basis that covers most of the embedding and of the decoder's states, a quarter of the coordinates and the norm
    of the remainder bound each logit from above (Cauchy-Schwarz). One exact logit then mostly rules out all others.
    ``states`` [n, H] are typical states of the decoder, from which the basis is computed.
    """
    covariances = [x.T @ x / x.square().sum() for x in (embedding, states)]
    directions = torch.linalg.eigh(covariances[0] + covariances[1]).eigenvectors.flip(1)
    basis = directions[:, : max(1, embedding.shape[1] // 4 - 1)].T.contiguous()
    table, some = _bound_coordinates(embedding, basis), states[:MEASURED_STATES]
    largest = (some @ embedding.T).amax(-1, keepdim=True)
    if (_bound_coordinates(some, basis) @ table.T >= largest).float().mean() > max_share_left:
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


@serial
def _coordinates(x, basis, table, slack):
    """States x [R, H] -> their coordinates [R, Q + 1], whose products with the packed table are upper bounds of the
    logits."""
    size = table.shape[1] - 1
    coordinates, y = product(x, basis), np.empty((len(x), size + 1), np.float32)
    for r in range(len(x)):
        square, covered = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            square += x[r, i] * x[r, i]
        for q in range(size):
            y[r, q] = coordinates[r, q]
            covered += coordinates[r, q] * coordinates[r, q]
        y[r, size] = np.sqrt(max(square - covered, np.float32(0))) + slack * np.sqrt(square)
    return y


@serial
def _count_spans(weight):
    return (count_groups(weight) + SPAN - 1) // SPAN


@serial
def _share_by_bounds(team, x, basis, table, slack, embedding, bounds, best):
    """``share_argmax`` by bounds [SLAB, V or more]."""
    groups, spans = count_groups(table), _count_spans(table)
    for first in range(0, len(x), SLAB):
        phases, rows = team[2 * (first // SLAB) :], x[first : first + SLAB]
        done, span = 0, claim(phases[0])
        if span < spans:
            coordinates = _coordinates(rows, basis, table, slack)
            while span < spans:
                for group in range(span * SPAN, min((span + 1) * SPAN, groups)):
                    multiply(coordinates, table, bounds, group)
                done += 1
                span = claim(phases[0])
        finish(phases[0], done, spans)
        done, r = 0, claim(phases[1])
        while r < len(rows):
            best[first + r] = _argmax_below(bounds[r], rows[r], embedding)
            done += 1
            r = claim(phases[1])
        finish(phases[1], done, len(rows))


@serial
def _share_by_logits(team, x, embedding, tokens, highest, candidates, best):
    """``share_argmax`` by all logits; highest and candidates [spans, R] are those of each span of tokens."""
    groups, spans = count_groups(embedding), _count_spans(embedding)
    done, span = 0, claim(team[0])
    if span < spans:
        operand, y = begin_products(x, embedding), np.empty((len(x), SPAN * GROUP * LANES), np.float32)
        while span < spans:
            panels = embedding[span * SPAN * GROUP : min((span + 1) * SPAN, groups) * GROUP]
            for group in range(count_groups(panels)):
                multiply(operand, panels, y, group)
            token = span * SPAN * GROUP * LANES
            for r in range(len(x)):
                row, v = y[r, : min(len(panels) * LANES, tokens - token)], 0
                highest[span, r] = maximum(row.view(np.int32))
                while v < len(row) - 1 and row[v] != highest[span, r]:
                    v += 1
                candidates[span, r] = token + v
            done += 1
            span = claim(team[0])
        end_products(embedding)
    finish(team[0], done, spans)
    done = 0
    if claim(team[1]) == 0:
        for r in range(len(x)):
            best[r] = candidates[highest[:, r].argmax(), r]
        done = 1
    finish(team[1], done, 1)


def argmax_phases(rows, vocabulary):
    """The number of phases of ``share_argmax`` for some rows."""


def argmax_buffers(rows, vocabulary):
    """Where a team keeps the values of ``share_argmax`` for some rows."""


def share_argmax(team, x, vocabulary, buffers, best):
    """This thread's share of ``argmax``, into best [R]."""


@overload(argmax_phases)
def _argmax_phases(rows, vocabulary):
    if len(vocabulary) == 2:
        return lambda rows, vocabulary: 2
    return lambda rows, vocabulary: 2 * ((rows + SLAB - 1) // SLAB)


@overload(argmax_buffers)
def _argmax_buffers(rows, vocabulary):
    if len(vocabulary) == 2:

        def by_logits(rows, vocabulary):
            shape = _count_spans(vocabulary[0]), rows
            return np.empty(shape, np.float32), np.empty(shape, np.int64)

        return by_logits
    return lambda rows, vocabulary: (np.empty((min(rows, SLAB), len(vocabulary[1]) * LANES), np.float32),)


@overload(share_argmax)
def _share_argmax(team, x, vocabulary, buffers, best):
    if len(vocabulary) == 2:

        def by_logits(team, x, vocabulary, buffers, best):
            embedding, tokens = vocabulary
            highest, candidates = buffers
            _share_by_logits(team, x, embedding, tokens, highest, candidates, best)

        return by_logits

    def by_bounds(team, x, vocabulary, buffers, best):
        basis, table, slack, embedding = vocabulary
        _share_by_bounds(team, x, basis, table, slack, embedding, buffers[0], best)

    return by_bounds


@stored_parallel
def argmax(x: ndarray, threads: int, vocabulary: tuple, best: ndarray) -> None:
    """States x [R, H] -> the token with the largest logit of each, into best [R], the first of equal ones. The
    vocabulary is the output matrix: the arrays of ``vocabulary_bounds``, or its packed weight and V."""
    team, buffers = new_team(argmax_phases(len(x), vocabulary)), argmax_buffers(len(x), vocabulary)
    for _ in prange(threads):
        share_argmax(team, x, vocabulary, buffers, best)
