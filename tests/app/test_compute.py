import threading

import pytest
from threadpoolctl import threadpool_info

from app import compute
from app.registry import loaded
from calm.engine.scheduler import CLIENT_SLOTS


def test_items_are_computed_on_one_thread_and_the_generator_is_closed_with_the_iterator():
    threads, closed = [], []

    def items():
        try:
            for number in range(5):
                threads.append(threading.current_thread())
                yield number
        finally:
            closed.append(True)

    assert list(compute.iterate(items())) == [0, 1, 2, 3, 4]
    reader = compute.iterate(items())
    assert next(reader) == 0
    reader.close()
    assert len(set(threads)) == 1 and threads[0] is not threading.current_thread()
    assert len(closed) == 2


def test_numpy_uses_one_core_where_a_model_is_loaded():
    loaded()
    assert all(library["num_threads"] == 1 for library in threadpool_info() if library["user_api"] == "blas")


def test_an_error_reaches_the_caller():
    def items():
        yield 1
        raise ValueError("no")

    reader = compute.iterate(items())
    assert next(reader) == 1
    with pytest.raises(ValueError, match="no"):
        next(reader)


def test_no_more_texts_run_at_once_than_a_visitor_has_slots():
    running, most = set(), []

    def items(number):
        running.add(number)
        most.append(len(running))
        yield from range(1 + number % 3)
        running.remove(number)

    count = CLIENT_SLOTS + 4
    rounds = list(compute.side_by_side([items(number) for number in range(count)]))
    assert max(most) == CLIENT_SLOTS and not running
    for number, column in enumerate(zip(*rounds)):
        assert [item for item in column if item is not None] == list(range(1 + number % 3))
