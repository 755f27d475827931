"""Draws tokens from the softmax of their logits. R rows, V vocabulary."""

import numpy as np
from numpy import ndarray

from .arithmetic import exponential, maximum
from .compilation import exact, serial, stored

BLOCK = 64  # tokens whose weights are added up together
EXPONENT = np.int32(0x7F800000)  # all ones in numbers that are infinite, or no numbers


@serial
def _weights(logits, temperature, weights, sums, largest):
    """Writes the unnormalised probabilities of logits [V], and their sums and maxima in blocks. Returns whether all
    logits are finite at this temperature."""
    for v in range(len(logits)):
        weights[v] = logits[v] / temperature
    bits, exponents = weights.view(np.int32), np.int32(0)
    for v in range(len(bits)):
        exponents = max(exponents, np.int32(bits[v] & EXPONENT))
    if exponents == EXPONENT:
        return False
    highest = maximum(bits)
    for b in range(len(sums)):
        part, total = weights[b * BLOCK : (b + 1) * BLOCK], np.float64(0)
        for v in range(len(part)):
            part[v] = exponential(part[v] - highest)
            total += np.float64(part[v])
        sums[b], largest[b] = total, maximum(bits[b * BLOCK : (b + 1) * BLOCK])
    return True


@exact
def _draw(weights, sums, uniform):
    """The token at which the cumulative sum of the weights exceeds a share of their total, and the total."""
    total = np.float64(0)
    for b in range(len(sums)):
        total += sums[b]
    left, b = uniform * total, 0
    while b < len(sums) - 1 and left >= sums[b]:
        left -= sums[b]
        b += 1
    token = b * BLOCK
    end = min(token + BLOCK, len(weights)) - 1
    while token < end and left >= weights[token]:
        left -= weights[token]
        token += 1
    return token, total


@stored
def sample_tokens(
    logits: ndarray, temperatures: ndarray, uniforms: ndarray, tokens: ndarray, best: ndarray, probabilities: ndarray
) -> None:
    """Draws a token for each row by one uniform number from [0, 1), the inverse of the cumulative distribution:
    logits [R, V], float32 temperatures [R], float64 uniforms [R] -> tokens [R], and the most probable tokens
    [R, top] with their probabilities, into best and probabilities. The token is -1, and the rest is 0, where a logit
    over the temperature is not finite."""
    blocks, top = (logits.shape[1] + BLOCK - 1) // BLOCK, best.shape[1]
    weights, sums, largest = np.empty(logits.shape[1], np.float32), np.empty(blocks), np.empty(blocks, np.float32)
    tokens[:], best[:], probabilities[:] = -1, 0, 0
    for r in range(len(logits)):
        if not _weights(logits[r], temperatures[r], weights, sums, largest):
            continue
        tokens[r], total = _draw(weights, sums, uniforms[r])
        for i in range(top):
            b = largest.argmax()
            part = weights[b * BLOCK : (b + 1) * BLOCK]
            v = part.argmax()
            best[r, i], probabilities[r, i] = b * BLOCK + v, part[v] / total
            part[v] = -1
            largest[b] = part.max()
