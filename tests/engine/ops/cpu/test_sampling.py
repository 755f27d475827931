import signal

import numpy as np
import pytest

from calm.engine.ops.cpu import sample_tokens


def test_a_signal_during_a_kernel_raises_the_exception_of_its_handler():
    """Not a SystemError, which a kernel raises that returns several arrays."""

    def interrupt(*_) -> None:
        raise InterruptedError

    logits, ones = np.zeros((8, 100_000), np.float32), np.ones(8, np.float32)
    drawn = np.empty(8, np.int64), np.empty((8, 1), np.int64), np.empty((8, 1))
    sample_tokens(logits, ones, ones.astype(float) / 2, *drawn)  # compiled
    previous = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(5):
            with pytest.raises(InterruptedError):
                signal.setitimer(signal.ITIMER_REAL, 0.005)
                while True:
                    sample_tokens(logits, ones, ones.astype(float) / 2, *drawn)
    finally:
        signal.signal(signal.SIGALRM, previous)
