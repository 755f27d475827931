import gradio as gr
import pytest

from app import controls
from app.controls import throttle
from app.streaming import Panel, Progress, streamed
from calm import CalmError


@pytest.fixture
def panel():
    with gr.Blocks():
        return Panel([gr.JSON()], gr.HTML(), *controls.start_and_stop("Go", "go"))


def visible(update) -> list:
    """Whether the start and the stop button are shown; None where that does not change."""
    return [button.get("visible") for button in update[-2:]]


def test_each_progress_is_shown_and_the_buttons_come_back(panel):
    def work(count):
        yield Progress("Starting …")
        for number in range(count):
            yield Progress(f"{number + 1} of {count}", (number,))

    first, *middle, last = panel.run(work, 2)
    assert "Starting" in first[1] and visible(first) == [False, True]
    assert [(update[0], visible(update)) for update in middle] == [(0, [None, None]), (1, [None, None])]
    assert visible(last) == [True, False] and last[:2] == [1, gr.skip()]  # a slow browser may see the last update only


def test_the_update_of_finished_work_is_the_last_one(panel):
    def work():
        yield Progress("Starting …")
        yield Progress("Done.", (7,), finished=True)

    _, last = panel.run(work)
    assert last[0] == 7 and "Done." in last[1] and visible(last) == [True, False]


def test_a_run_after_a_finished_one_can_be_stopped_too(panel):
    def work():
        for number in range(2):
            yield Progress("Starting …")
            yield Progress(f"{number}", (number,), finished=True)

    assert [visible(update) for update in panel.run(work)] == [[False, True], [True, False]] * 2


@pytest.mark.parametrize("error", [CalmError("Too long."), ZeroDivisionError("division by zero")])
@pytest.mark.parametrize("results", [(), (7,)])
def test_after_any_error_the_result_stays_and_the_buttons_come_back(panel, error, results):
    def work():
        yield Progress("Starting …", results)
        raise error

    _, last = panel.run(work)
    assert visible(last) == [True, False] and last[0] == (results[0] if results else gr.skip())
    assert 'role="alert"' in last[1] and "division" not in last[1]
    assert ('data-stale="true"' in last[1]) == (not results)  # the result on the page is an earlier one


def test_a_handler_keeps_the_signature_of_its_work(panel):
    import inspect

    def work(number, event: gr.EventData):
        yield Progress(f"{number}")

    assert list(inspect.signature(streamed(panel, work)).parameters) == ["number", "event"]


def test_throttling_keeps_the_first_and_the_last_value(monkeypatch):
    monkeypatch.setattr(controls, "UPDATE_INTERVAL", 1e9)
    clock = iter(range(10**10, 10**11))
    monkeypatch.setattr(controls.time, "monotonic", lambda: float(next(clock)))
    assert list(throttle(range(50))) == [0, 49]
    assert list(throttle([3])) == [3] and list(throttle([])) == []
    assert list(throttle(range(50), keep_last=False)) == [0]

    def failing():
        yield from range(50)
        raise ValueError

    shown = []
    with pytest.raises(ValueError):
        for value in throttle(failing()):
            shown.append(value)
    assert shown == [0, 49]
