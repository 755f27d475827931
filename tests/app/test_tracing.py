"""The spans of an event on the page."""

from collections.abc import Iterator

import fastapi
import gradio as gr
import pytest

import calm
from app import compute
from app.errors import Page
from calm.tracing import REQUEST_ID

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CALLER = gr.Request(
    fastapi.Request({"type": "http", "headers": [(b"traceparent", f"00-{TRACE}-{PARENT}-01".encode())]})
)


async def answers(function, request: gr.Request | None) -> list:
    """The results of an event that calls this function."""
    with Page() as page:
        gr.api(function, api_name="write")
    page.queue()
    results, iterator = [], None
    while True:
        options = {"request": request, "event_id": "0123456789", "iterator": iterator}
        result = await page.process_api(block_fn=page.fns[0], inputs=[], **options)
        results, iterator = results + result["data"], result["iterator"]
        if not result["is_generating"]:
            return results


@pytest.mark.anyio
async def test_an_event_is_one_span_of_the_callers_trace_and_the_parent_of_its_texts(spans, tiny):
    lm = tiny()

    def write() -> Iterator[str]:
        streams = [calm.stream(lm, "Once", calm.GenerationOptions(1.0, 16, 8, seed=seed)) for seed in range(2)]
        for number, _ in enumerate(compute.side_by_side(streams)):
            yield str(number)
        compute.run(calm.draw_pool, lm, "Once", [], 8)

    assert (await answers(write, CALLER))[0] == "0"
    *texts, event = spans(4)
    assert [span.name for span in texts] == ["calm.generate"] * 3 and event.name == "write"
    assert f"{event.context.trace_id:032x}" == TRACE and f"{event.parent.span_id:016x}" == PARENT
    assert {span.parent.span_id for span in texts} == {event.context.span_id}
    assert {span.attributes[REQUEST_ID] for span in (*texts, event)} == {"01234567"}


@pytest.mark.anyio
@pytest.mark.parametrize("error", [calm.CalmError("Too long."), ZeroDivisionError("division")])
async def test_the_span_of_an_event_records_its_error(spans, error):
    def write() -> str:
        raise error

    with pytest.raises(gr.Error):
        await answers(write, None)
    (event,) = spans(1)
    assert event.parent is None and not event.status.is_ok
    assert [one.attributes["exception.message"] for one in event.events] == [str(error)]


@pytest.fixture
def anyio_backend():
    return "asyncio"
