"""What LLVM does for many numbers at once only when it is written so."""

import numpy as np

from .compilation import serial


@serial
def exponential(x):
    """e^x of one number, by a polynomial, which a loop computes for many at once, as it cannot call a library.

    e^x = 2^n e^f, f at most half of ln 2; ln 2 is taken off in two parts, the first of which has so few digits that its
    multiples are exact (as in the Cephes library). Beyond 80, where it would leave float32, it stays as it is there.
    """
    x = min(max(x, np.float32(-80)), np.float32(80))
    n = np.floor(x * np.float32(1 / np.log(2)) + np.float32(0.5))
    f = x - n * np.float32(0.693359375) - n * np.float32(-2.12194440e-4)
    e = np.float32(1 / 5040)
    for place in (720, 120, 24, 6, 2, 1, 1):
        e = e * f + np.float32(1 / place)
    return e * np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)


@serial
def sigmoid(x):
    """Of one number."""
    return np.float32(1) / (np.float32(1) + exponential(-x))


@serial
def greatest(bits):
    """Of float32 numbers, by their bits [n]: a loop compares whole numbers many at once, and not what may be NaN. The
    order is the same but for the negative, whose lower bits are turned for it, and back."""
    found = np.int32(-(2**31))
    for i in range(len(bits)):
        found = max(found, np.int32(bits[i] ^ ((bits[i] >> np.int32(31)) & np.int32(0x7FFFFFFF))))
    return np.int32(found ^ ((found >> np.int32(31)) & np.int32(0x7FFFFFFF))).view(np.float32)


@serial
def copy(x, y):
    """x [A, B] into y. An assignment would do, but to say what is wrong with its shapes takes seconds to compile."""
    for i in range(len(x)):
        for j in range(x.shape[1]):
            y[i, j] = x[i, j]
