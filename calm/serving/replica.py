"""One process that serves a model: its engine behind two methods, whose arguments and results are plain data.

This module does not import Ray, so that tests run replicas in their own process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import traceback
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from .. import tracing
from ..engine import ComputeThread, create_engine, engine_for
from ..engine.head import SLOTS
from ..engine.samplers import CompletedStep
from ..engine.warmup import warm_up
from ..errors import CalmError
from ..evaluation.brier import stream_brier_lm
from ..generation import GenerationOptions, Queued, Step, draw_pool, draw_vectors, stream
from ..hub.language_model import LanguageModel
from ..hub.loading import load
from ..hub.memory import resident_memory
from ..reconstruction import decode, encode, reconstruct, robustness
from ..statistics import STATISTICS

logger = logging.getLogger(__name__)

QUEUE = 16
"""Requests that wait in the engine of a replica."""
AT_ONCE = SLOTS + QUEUE
"""Requests that a replica accepts at once."""
MESSAGE_SECONDS = 0.1
"""Between two messages of a text, at least. The page shows results as often."""
MESSAGES_PER_SECOND = 40
"""Of all texts of a replica. Each message costs both processes about a millisecond."""
RESPONSE_SECONDS = 30.0
"""A compute thread that does not take new work for so long is not healthy."""


@dataclass(frozen=True)
class EncodedStep(Step):
    """A step with the vector to which the autoencoder encodes its chunk."""

    encoded: np.ndarray | None = None
    """float32 [L], the mean; None for a token-by-token model."""


@dataclass(frozen=True)
class Failure:
    """An exception of a request."""

    sentence: str
    """The message of a CalmError; empty for any other exception."""
    traceback: str


@dataclass(frozen=True)
class Description:
    """What a client needs to know of a model."""

    lm: LanguageModel
    """Tokenizer, text format and configuration. The weights are on the device "meta", which holds no numbers."""
    device: str


def _failure(error: Exception, request_id: str) -> Failure:
    if isinstance(error, CalmError):
        return Failure(str(error), "")
    logger.error("Request %s failed.", request_id, exc_info=error)
    return Failure("", "".join(traceback.format_exception(error)))


class Replica:
    """A loaded model with its engine. Requests share its slots by continuous batching."""

    def __init__(self, model: str, device: str | None = None, executor: ComputeThread | None = None):
        """Loads the model and compiles its kernels. Raises CalmError if it cannot be loaded.

        Replicas of one process share an ``executor``.
        """
        self.executor = executor or ComputeThread()
        self.threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="request")
        # Not more than one core, because the compute thread uses all of them.
        self.encoder = ThreadPoolExecutor(1, "encoder", torch.set_num_threads, (1,))
        self.lm = self.executor.run(self._load, model, device)
        self.texts = 0
        """Requests for a text, those in the queue included."""

    def _load(self, model: str, device: str | None) -> LanguageModel:
        lm = load(model, device)
        create_engine(lm, self.executor)
        warm_up(lm)
        return lm

    async def generate(
        self,
        prompt: str,
        options: GenerationOptions,
        client: str = "",
        completed: Sequence[CompletedStep] = (),
        request_id: str = "",
        encodings: bool = False,
        traceparent: str = "",
    ) -> AsyncGenerator[list[Step | Queued | Failure], None]:
        """The events of ``calm.stream``, each message with all that are ready. A failure is the last event.
        With ``encodings``, the steps of a CALM are ``EncodedStep``. The spans belong to the trace of ``traceparent``.

        The first chunk is sent at once. After that, messages have a minimum distance, which grows with the texts.
        """
        loop, ready = asyncio.get_running_loop(), deque[Any]()
        updated, ended, cancelled = asyncio.Event(), asyncio.Event(), threading.Event()

        def run() -> None:
            try:
                span = self._span("generate", request_id, traceparent)
                with span, span.active(), closing(stream(self.lm, prompt, options, client, completed)) as events:
                    for event in events:
                        if cancelled.is_set():
                            return
                        ready.append(event)
                        if len(ready) == 1:  # later events join the message of the first
                            loop.call_soon_threadsafe(updated.set)
            except Exception as error:
                ready.append(_failure(error, request_id))
            finally:
                loop.call_soon_threadsafe(ended.set)
                loop.call_soon_threadsafe(updated.set)

        logger.info("Request %s: starts after %d steps.", request_id, len(completed))
        text = self.threads.submit(run)
        self.texts += 1
        try:
            while not (ended.is_set() and not ready):
                await updated.wait()
                updated.clear()
                events: list[Any] = []
                while ready:  # until it is empty: only the first event of an empty queue wakes this task
                    events.append(ready.popleft())
                if events:
                    if encodings:
                        events = await asyncio.wrap_future(self.encoder.submit(self._with_encodings, events))
                    yield events
                if any(isinstance(event, Step) for event in events):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(ended.wait(), max(MESSAGE_SECONDS, self.texts / MESSAGES_PER_SECOND))
        finally:
            self.texts -= 1
            cancelled.set()
            text.cancel()  # if no thread has started it

    def _with_encodings(self, events: list[Any]) -> list[Any]:
        """The events. Each step of a CALM has its encoding."""
        steps = [event for event in events if isinstance(event, Step)]
        if not steps or not self.lm.is_calm:
            return events
        means = iter(encode(self.lm, [step.token_ids for step in steps]).mean)
        return [
            EncodedStep(**vars(event), encoded=next(means)) if isinstance(event, Step) else event for event in events
        ]

    def _span(self, operation: str, request_id: str, traceparent: str) -> tracing.Span:
        attributes = {"gen_ai.request.model": self.lm.name, tracing.REQUEST_ID: request_id}
        return tracing.start(f"replica: {operation}", attributes, traceparent, "server")

    async def compute(
        self, operation: str, arguments: tuple[Any, ...], request_id: str = "", traceparent: str = ""
    ) -> AsyncGenerator:
        """The items of an operation, or its single result. A failure is the last item."""
        logger.info("Request %s: %s.", request_id, operation)
        items: Generator | None = None
        span = self._span(operation, request_id, traceparent)
        executor = self.threads if operation in ENGINE_OPERATIONS else self.executor
        run = partial(asyncio.get_running_loop().run_in_executor, executor)
        try:
            result = await run(_within, span, OPERATIONS[operation], self.lm, *arguments)
            if not isinstance(result, Generator):
                yield result
                return
            items = result
            while (item := await run(_within, span, _next, items)) is not END:
                yield item
        except Exception as error:
            span.fail(error)
            yield _failure(error, request_id)
        finally:
            if items is not None:
                await run(items.close)
            span.end()

    async def check_health(self) -> None:
        """Raises an exception if the compute thread does not answer, so that the replica is replaced."""
        answer = asyncio.get_running_loop().run_in_executor(self.executor, int)
        await asyncio.wait_for(answer, RESPONSE_SECONDS)

    def load_figures(self) -> dict[str, int]:
        """The requests in slots and in the queue."""
        engine = engine_for(self.lm)
        return {"active": sum(not request.finished for request in list(engine.running)), "queued": len(engine.queue)}


def process_figures() -> dict[str, int]:
    """Totals of this process (``calm.statistics``) and its resident memory."""
    totals = {"steps": STATISTICS.steps, "tokens": STATISTICS.tokens, "draws": STATISTICS.draws}
    return {**totals, "memory_bytes": resident_memory()}


END = object()


def _within(span: tracing.Span, function: Callable[..., Any], *arguments: Any) -> Any:
    with span.active():
        return function(*arguments)


def _next(items: Generator) -> Any:
    return next(items, END)


def describe(lm: LanguageModel) -> Description:
    """The description of a model."""
    with torch.device("meta"):
        model = type(lm.model)(lm.model.config).to(lm.dtype).eval()
    model.tie_weights()
    return Description(LanguageModel(lm.name, model, lm.tokenizer, lm.text_format), str(lm.device))


def _robustness(lm: LanguageModel, text: str, noises: Sequence[float], seed: int) -> Generator:
    return robustness(lm, text, noises, seed=seed)


def _brier_lm(lm: LanguageModel, texts: Sequence[str], seed: int, samples: int, temperature: float) -> Generator:
    return stream_brier_lm(lm, texts, seed, samples, pauses=True, temperature=temperature)


OPERATIONS: dict[str, Callable[..., Any]] = {
    "brier_lm": _brier_lm,
    "decode": decode,
    "describe": describe,
    "draw_pool": draw_pool,
    "draw_vectors": draw_vectors,
    "encode": encode,
    "reconstruct": reconstruct,
    "robustness": _robustness,
}
"""Functions of a model that a client may call by name."""
ENGINE_OPERATIONS = ("draw_pool",)
"""Those that wait for a slot of the engine. On the compute thread they would stop all other work until one is free."""
