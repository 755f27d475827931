"""Asks replicas for texts and results. A request survives the loss of its replica: another one continues it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, Protocol

from .. import tracing
from ..engine.samplers import CompletedStep
from ..errors import CalmError
from ..generation import GenerationOptions, Queued, Step
from .replica import Description, Failure

PATIENCE = 120.0
"""Seconds for which a request waits for another replica."""
PAUSES = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds before each attempt after a loss; the last one repeats."""
DEATHS = 4
"""After so many replicas in a row have died while they computed a request, it is not sent again: it may kill them."""
SMOOTHING = 0.1
"""Weight of the latest text in the mean duration of a text."""


class ReplicaLost(Exception):
    """The replica of a request has ended."""


class NoReplica(Exception):
    """No replica runs now."""


class Overloaded(Exception):
    """The queue in front of the replicas is full."""


class Replicas(Protocol):
    """A connection to the replicas of one model."""

    def stream(self, method: str, *arguments: Any) -> Generator[Any, None, None]:
        """The messages of a method of ``Replica``, from any replica. Closing it cancels the request.

        Raises ReplicaLost, NoReplica and Overloaded.
        """


class Client:
    """Requests to the replicas of one model, for any number of threads.

    Every method raises CalmError as the function of the library does, if all replicas are busy, if no replica answers
    for two minutes, and if several replicas end under the request; and RuntimeError with the replica's traceback for
    any other exception there.
    """

    def __init__(self, name: str, replicas: Replicas, pause: Callable[[float], None] = time.sleep):
        self.name, self.replicas, self._pause = name, replicas, pause
        self.text_seconds = 5.0
        """Mean duration of a text."""
        self.losses = 0
        """Requests that continued on another replica."""

    def describe(self) -> Description:
        return self.compute("describe")

    def stream(
        self,
        prompt: str,
        options: GenerationOptions,
        client: str = "",
        request_id: str = "",
        encodings: bool = False,
    ) -> Generator[Step | Queued, None, None]:
        """The steps of a text, and its positions in the queue of a replica.

        The steps that have arrived are handed to the next replica, so the text equals that of one replica to the bit.
        """
        completed: list[CompletedStep] = []
        start = time.monotonic()

        with self._span("generate", request_id) as span:

            def batches() -> Generator[Any, None, None]:
                arguments = (prompt, options, client, tuple(completed), request_id, encodings, span.traceparent)
                return self.replicas.stream("generate", *arguments)

            for batch in self._recovered(batches, span):
                for event in batch:
                    if isinstance(event, Step):
                        completed.append(event.completed())
                yield from map(_checked, batch)
        self.text_seconds += SMOOTHING * (time.monotonic() - start - self.text_seconds)

    def iterate(self, operation: str, *arguments: Any, request_id: str = "") -> Generator[Any, None, None]:
        """The items of an operation of ``Replica``. After a loss, another replica computes all of them again, and those
        that have arrived are left out."""
        arrived = 0

        with self._span(operation, request_id) as span:

            def items() -> Generator[Any, None, None]:
                messages = self.replicas.stream("compute", operation, arguments, request_id, span.traceparent)
                for number, item in enumerate(messages):
                    if number >= arrived:
                        yield item

            for item in self._recovered(items, span):
                arrived += 1
                yield _checked(item)

    def compute(self, operation: str, *arguments: Any, request_id: str = "") -> Any:
        """The result of an operation of ``Replica``."""
        return next(self.iterate(operation, *arguments, request_id=request_id))

    def _span(self, operation: str, request_id: str) -> tracing.Span:
        attributes = {"gen_ai.request.model": self.name, tracing.REQUEST_ID: request_id}
        return tracing.start(f"request to a replica: {operation}", attributes, kind="client")

    def _recovered(self, attempt: Callable[[], Generator[Any, None, None]], span: tracing.Span) -> Iterator[Any]:
        """The messages of an attempt, and after the loss of its replica those of another one."""
        lost, deaths, deadline = 0, 0, 0.0
        while True:
            waits = False
            try:
                with closing(attempt()) as messages:
                    for message in messages:
                        lost, waits = 0, _only_waits(message)
                        if not waits:
                            deaths = 0
                        yield message
                return
            except Overloaded:
                if not deadline:  # a request that has been accepted once waits
                    raise CalmError(self._busy()) from None
            except ReplicaLost as error:
                span.event("replica lost")
                self.losses += 1
                deaths += not waits  # the replica did not compute a request that was in its queue
                if deaths == DEATHS:
                    raise CalmError(
                        f"{DEATHS} replicas of {self.name} ended while they computed this request, so it is given up."
                    ) from error
            except NoReplica:
                span.event("no replica")
            now = time.monotonic()
            deadline = deadline if lost else now + PATIENCE
            if now > deadline:
                raise CalmError(f"No replica of {self.name} answers: try again in a few minutes.")
            self._pause(PAUSES[min(lost, len(PAUSES) - 1)])
            lost += 1

    def _busy(self) -> str:
        seconds = max(1, math.ceil(self.text_seconds))
        plural = "s" * (seconds > 1)
        return f"All replicas of {self.name} are busy: try again in about {seconds} second{plural}."


def _only_waits(message: Any) -> bool:
    """Whether a message holds nothing but positions in the queue."""
    return isinstance(message, list) and all(isinstance(event, Queued) for event in message)


def _checked(event: Any) -> Any:
    if isinstance(event, Failure):
        raise CalmError(event.sentence) if event.sentence else RuntimeError(event.traceback)
    return event
