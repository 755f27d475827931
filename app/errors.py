"""The boundary for errors: turns each exception of the page, the server functions, the endpoints and the MCP tools into
one sentence."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr

import calm
from calm.errors import is_out_of_memory

from . import logs, metrics
from .payloads.types import ErrorPayload

logger = logging.getLogger(__name__)


def error_sentence(error: Exception) -> str:
    """The sentence that the user reads, which is the message of a ``CalmError``.

    Any other exception is logged with its traceback under a short request id, and the sentence names that id.
    """
    is_users = isinstance(error, calm.CalmError)
    metrics.count_failure(is_users)
    if is_users:
        logger.info("A request was refused", extra={"fields": {"sentence": str(error)}})
        return str(error)
    request_id = logs.request_id()
    logger.error("Request %s failed.", request_id, exc_info=error)
    if is_out_of_memory(error):
        cause = "because the server is out of memory; try fewer samples per step, fewer tokens, or later"
    else:
        cause = "because of an error in the program"
    return f"This request failed {cause}. The server's log describes it as {request_id}."


@contextmanager
def api_errors() -> Iterator[None]:
    """Raises every exception as a ``gr.Error``, which Gradio sends to the caller as one sentence."""
    try:
        yield
    except gr.Error:
        raise
    except Exception as error:
        raise gr.Error(error_sentence(error), print_exception=False) from error


def answers_with_error(function: Callable[..., Any]) -> Callable[..., Any]:
    """A server function that returns an ``ErrorPayload`` instead of raising."""

    @functools.wraps(function)
    def answer(request: Any) -> Any:
        try:
            return function(request)
        except Exception as error:
            payload: ErrorPayload = {"error": error_sentence(error)}
            return payload

    return answer


class Page(gr.Blocks):
    """Blocks that also report errors outside our own functions, such as an input that Gradio cannot parse, in one
    sentence."""

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        event_id = options.get("event_id")
        observed = metrics.observe(options.get("block_fn"), event_id, options.get("iterator") is None)
        with logs.request(event_id), observed as call, api_errors():
            result = await super().process_api(*arguments, **options)
            call.update(result)
            return result
