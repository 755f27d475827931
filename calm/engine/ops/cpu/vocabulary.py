"""The likeliest of all tokens, whose products with a state need not all be computed."""

import numpy as np
import torch
from numba import prange
from numba.extending import overload
from numpy import ndarray
from torch import Tensor

from .arithmetic import greatest
from .compilation import ZERO, kept, parallel, part_of, serial
from .packing import GROUP, LANES, pack
from .products import done, groups_of, multiply, operand_of, product

COMPILED_WITH = "031900bd2ddb"  # as in ``layers``
SLACK = 2e-3  # of the lengths; its square exceeds what rounding takes from a bound


def searchable(embedding: Tensor, states: Tensor) -> tuple:
    """embedding [V, H] -> the arrays by which ``likeliest`` finds a token without all products: packed basis and table,
    slack, and the embedding.

    A quarter of the coordinates, in a basis that has most of the embedding and of the decoder's states in it, and the
    length of the rest bound each logit from above (Cauchy-Schwarz), and one logit computed in full mostly rules out all
    others. ``states`` [n, H], from which the basis comes, may be any that resemble what will be asked for.
    """
    spread, others = (x.T @ x / x.square().sum() for x in (embedding, states))
    directions = torch.linalg.eigh(spread + others).eigenvectors.flip(1)
    basis = directions[:, : max(1, embedding.shape[1] // 4 - 1)].T.contiguous()
    near, length = embedding @ basis.T, embedding.square().sum(-1, keepdim=True)
    rest = (length - near.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
    table = torch.cat((near, rest + SLACK * length.sqrt()), -1)
    return *(pack(matrix.numpy()) for matrix in (basis, table)), np.float32(SLACK), embedding.numpy()


@serial
def _settle(bounds, state, embedding):
    """bounds [>= V], never below the products of state [H] with the rows of embedding [V, H] -> the index of the
    greatest product. Only those are computed whose bound does not rule them out."""
    words, block = len(embedding), 64
    blocks = (words + block - 1) // block
    highest, bits = np.empty(blocks, np.float32), bounds.view(np.int32)
    for b in range(blocks):
        highest[b] = greatest(bits[b * block : min((b + 1) * block, words)])
    # The block with the greatest bound first: what is found there mostly rules out all others.
    first, found, product = int(highest.argmax()), 0, np.float32(-np.inf)
    for turn in range(blocks + 1):
        b = first if turn == 0 else turn - 1
        if highest[b] < product or (turn and b == first):
            continue
        part = bounds[b * block : min((b + 1) * block, words)]
        for v in range(len(part)):
            if part[v] >= product:
                word, total = embedding[b * block + v], np.float32(0)
                for i in range(len(state)):
                    total += state[i] * word[i]
                if total > product:
                    found, product = b * block + v, total
    return found


@kept
def bound(x, basis, table, slack):
    """x [R, H], packed basis and table of ``searchable`` -> bounds of the products with each word [R, >= V]."""
    rows, known = x.shape[0], table.shape[1] - 1
    along, y = product(x, basis), np.empty((rows, known + 1), np.float32)
    for r in range(rows):
        length, rest = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            length += x[r, i] * x[r, i]
        for q in range(known):
            y[r, q] = along[r, q]
            rest += along[r, q] * along[r, q]
        y[r, known] = np.sqrt(max(length - rest, np.float32(0))) + slack * np.sqrt(length)
    return product(y, table)


@serial
def _likeliest_of_few(x, basis, table, slack, embedding, best, first, few):
    some = x[first : first + few]
    bounds = bound(some, basis, table, slack)
    for r in range(len(some)):
        best[first + r] = _settle(bounds[r], some[r], embedding)


@parallel
def _by_bounds(x, threads, basis, table, slack, embedding):
    """A few rows at a time, whose bounds stay in the nearest memory."""
    few = 8 if len(x) > 16 else 4
    best = np.empty(len(x), np.int64)
    if threads == 1:
        for first in range(0, len(x), few):
            _likeliest_of_few(x, basis, table, slack, embedding, best, first, few)
    else:
        for chunk in prange((len(x) + few - 1) // few):
            _likeliest_of_few(x, basis, table, slack, embedding, best, np.int64(few * chunk), few)
    return best


SPAN = 4  # groups of words among which the greatest product is looked for at once


@serial
def _best_of(x, embedding, words, start, end, products, best):
    """The greatest products [R] of x [R, H] with the words of some groups, and which they are [R]."""
    operand, y = operand_of(x, embedding), np.empty((len(x), SPAN * GROUP * LANES), np.float32)
    for first in range(start, end, SPAN):
        panels = embedding[first * GROUP : min(first + SPAN, end) * GROUP]
        for group in range(groups_of(panels)):
            multiply(operand, panels, y, group)
        word = first * GROUP * LANES
        for r in range(len(x)):
            here = y[r, : min(len(panels) * LANES, words - word)]
            highest, v = greatest(here.view(np.int32)), 0
            if first == start or highest > products[r]:
                while v < len(here) - 1 and here[v] != highest:
                    v += 1
                products[r], best[r] = highest, word + v
    done(embedding)


@parallel
def _by_products(x, threads, embedding, words):
    """With a matrix unit: all products, each thread's with a part of the words."""
    groups = groups_of(embedding)
    parts = min(groups, threads)
    products, best = np.empty((parts, len(x)), np.float32), np.empty((parts, len(x)), np.int64)
    if parts == 1:
        _best_of(x, embedding, words, ZERO, groups, products[0], best[0])
    else:
        for part in prange(parts):
            start, end = part_of(np.int64(part), parts, groups)
            _best_of(x, embedding, words, start, end, products[part], best[part])
    for r in range(len(x)):
        for part in range(1, parts):
            if products[part, r] > products[0, r]:
                products[0, r], best[0, r] = products[part, r], best[part, r]
    return best[0]


def _likeliest(x, threads, vocabulary):
    """``likeliest`` by what the vocabulary consists of."""


@overload(_likeliest)
def _likeliest_for(x, threads, vocabulary):
    if len(vocabulary) == 2:
        return lambda x, threads, vocabulary: _by_products(x, threads, *vocabulary)
    return lambda x, threads, vocabulary: _by_bounds(x, threads, *vocabulary)


@kept
def likeliest(x: ndarray, threads: int, vocabulary: tuple) -> ndarray:
    """x [R, H] -> the index of the greatest product of each row with the rows of an embedding [V, H]. The vocabulary is
    its panels and V, for a matrix unit, or what ``searchable`` makes of it."""
    return _likeliest(x, threads, vocabulary)
