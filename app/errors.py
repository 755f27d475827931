"""The boundary for errors: turns each exception of the page, the server functions, the endpoints and the MCP tools into
one sentence."""

import functools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from fastapi import Request
from fastapi.responses import JSONResponse
from gradio.blocks import BlockFunction

import calm
from calm import tracing
from calm.errors import is_out_of_memory

from . import logs, metrics
from .parsing import WRONG_FORM
from .payloads.types import ErrorPayload

logger = logging.getLogger(__name__)


def error_sentence(error: Exception) -> str:
    """The sentence that the user reads, which is the message of a ``CalmError``. The span of the request records the
    error.

    Any other exception is logged with its traceback under a short request id, and the sentence names that id.
    """
    is_users = isinstance(error, calm.CalmError)
    metrics.count_failure(is_users)
    tracing.record_error(error)
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
    def answer(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            payload: ErrorPayload = {"error": error_sentence(error)}
            return payload

    return answer


async def answer_forged(request: Request, error: Exception) -> JSONResponse:
    """The answer of Gradio's own routes to a request that names a component, an event or a session that does not exist.

    The routes look these up without a check. Exceptions of our functions do not come here.
    """
    logger.info("%s could not be answered.", request.url.path, exc_info=error)
    return JSONResponse({"error": f"{WRONG_FORM}."}, status_code=400)


FORGED_ERRORS = (LookupError, TypeError, ValueError, AttributeError)


def exception_handlers() -> dict[type[Exception], Callable[..., Any]]:
    """For the web server of the page."""
    return dict.fromkeys(FORGED_ERRORS, answer_forged)


class Page(gr.Blocks):
    """Blocks that report errors outside our own functions in one sentence, too."""

    async def process_api(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        event_id, request = options.get("event_id"), options.get("request")
        traceparent = (
            request.headers.get("traceparent") if isinstance(request, gr.Request) and request.request else None
        )
        observed = metrics.observe(options.get("block_fn"), event_id, options.get("iterator") is None, traceparent)
        with logs.request(event_id), observed as call, api_errors():
            result = await super().process_api(*arguments, **options)
            call.update(result)
            return result

    async def preprocess_data(self, block_fn: BlockFunction, inputs: Any, *arguments: Any, **options: Any) -> list[Any]:
        """The inputs of an event as its components read them. What they cannot read is a mistake in the request."""
        if block_fn.fn is None:
            raise calm.CalmError("This event runs in the browser alone.")
        if len(inputs) < len(block_fn.inputs):
            name = block_fn.api_name if isinstance(block_fn.api_name, str) else "This event"
            raise calm.CalmError(f"{name} takes {len(block_fn.inputs)} inputs; the request has {len(inputs)}.")
        try:
            return await super().preprocess_data(block_fn, inputs, *arguments, **options)
        except gr.Error:
            raise
        except Exception as error:
            logger.info("The inputs of %s could not be read.", block_fn.name, exc_info=error)
            raise calm.CalmError(f"{WRONG_FORM}.") from error
