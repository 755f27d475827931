"""Functions that LLVM vectorises only when they are written like this."""

import numpy as np

from .compilation import serial


@serial
def exponential(x):
    """e^x of one number. It is a polynomial, because a loop with a library call is not vectorised.

    e^x = 2^n e^f with |f| at most ln(2) / 2. ln 2 is subtracted in two parts; the first has so few digits that its
    multiples are exact (as in the Cephes library). Beyond ±80, near the limits of float32, the result stays constant.
    """
    x = min(max(x, np.float32(-80)), np.float32(80))
    n = np.floor(x * np.float32(1 / np.log(2)) + np.float32(0.5))
    f = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
    e = np.float32(1 / 5040)
    for factorial in (720, 120, 24, 6, 2, 1, 1):
        e = e * f + np.float32(1 / factorial)
    return e * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@serial
def sigmoid(x):
    """The logistic function of one number."""
    return np.float32(1) / (np.float32(1) + exponential(-x))


@serial
def maximum(bits):
    """The largest of some float32 numbers, from their bits, int32 [n]. LLVM vectorises the comparison of integers, but
    not that of numbers that may be NaN. Positive numbers have the order of their bits; negative ones have it once all
    bits but the sign are inverted."""
    largest = np.int32(-(2**31))
    for i in range(len(bits)):
        largest = max(largest, np.int32(bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(largest ^ ((largest >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@serial
def copy(x, y):
    """Copies x [A, B] into y. numba takes seconds to compile an assignment, for the error message of unequal shapes."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j]
