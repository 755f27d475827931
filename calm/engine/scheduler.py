"""Generates several texts at once with one model, by continuous batching: requests join and leave at any step.

The caller that waits for a step runs one step for every active request. An engine has no thread of its own; with an
executor, steps run on the executor's thread.
"""

import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..hub.language_model import LanguageModel
from ..statistics import STATISTICS
from .backbone import make_backbone_step
from .executor import ComputeThread
from .head import SLOTS, CpuHeadStep, CudaGraphHeadStep, HeadStep, make_head_step
from .ops.selection import FALLBACK, Backend
from .requests import Generated, Queued, Request
from .samplers import Choice, Outcome, sample_chunks, sample_tokens, take_chunks, take_tokens
from .token_step import CpuTokenStep, TokenStep, make_token_step

logger = logging.getLogger(__name__)

RUN = 8  # the most steps of a run, whose chunks appear at once
RUN_SECONDS = 0.02  # a run that took longer on a CPU is followed by a single step, so that chunks appear steadily
UNREAD_LIMIT = 32  # results of a request that its caller has not taken; at the limit the request pauses
RESERVED_SLOTS = 2  # slots that one client cannot hold, so that the first request of another starts at once
CLIENT_SLOTS = SLOTS - RESERVED_SLOTS
"""Slots that one client can hold in an engine of ``SLOTS``."""
REPORT_SECONDS = 1.0  # between two reports of a position in the queue that has not changed
BURST_SECONDS = 0.05  # steps run this long before callers wake up, because waking them takes as long as a fast step
FIRST_STEP_SECONDS = 0.25  # steps run so much longer while a request has no result yet, before other work of the thread

Result = TypeVar("Result")


class Engine:
    """Runs up to ``slots`` requests at a time; more wait in a queue. Clients share the slots.

    A text depends on its prompt, options and seed alone, not on the requests beside it. An exception in a step ends
    the request that caused it and no other.

    An engine keeps the model's weights, but not the ``LanguageModel``, so that an engine can be stored by model and is
    freed with it. On a CPU it packs the weights when it is created: later changes of the model do not reach it.
    """

    def __init__(
        self,
        lm: LanguageModel,
        slots: int = SLOTS,
        executor: ComputeThread | None = None,
        backend: Backend | None = None,
    ):
        self.chunk_size, self.text_format = lm.chunk_size, lm.text_format
        self.slots, self.executor = slots, executor
        self.is_fallback = backend is FALLBACK
        """Whether PyTorch runs the steps, for example while the CPU kernels are being compiled."""
        self.head: HeadStep | None = make_head_step(lm.calm, backend) if lm.is_calm else None
        """Draws and decodes; None for a token-by-token model."""
        self._sample: Callable[[Tensor, Any], list[Outcome]]
        self._take: Callable[[Tensor, Any], list[Outcome]]
        step: Any = self.head or make_token_step(lm.llama, backend)
        if self.head:
            self._sample, self._take = partial(sample_chunks, step), partial(take_chunks, step)
        else:
            self._sample, self._take = partial(sample_tokens, step), partial(take_tokens, step)
        self._layers = step
        self.backbone = make_backbone_step(
            lm.backbone, slots, step.embed, step.project, backend, getattr(step, "read", None)
        )
        on_gpu = isinstance(step, CudaGraphHeadStep | TokenStep) and self.backbone.norm.weight.is_cuda
        self.run_steps = RUN if on_gpu or isinstance(step, CpuHeadStep | CpuTokenStep) else 0
        """The most steps of a run; 0 for none."""
        self._ends = np.array(sorted(self.text_format.end_ids))
        self.running: list[Request] = []
        self.queue: deque[Request] = deque()
        self._step_lock, self._schedule_lock = threading.Lock(), threading.Lock()
        self._scheduled = False
        """Whether the executor runs steps or has them in its queue."""

    def stream(self, request: Request) -> Iterator[Generated | Queued]:
        """Yields the steps of a request, and before them its position in the queue.

        The position is repeated once a second, so that the caller can close the iterator if its client has
        disconnected. On the executor's thread it is repeated after every step, so that other work can run.

        Closing the iterator frees the request's slot. Raises CalmError if the sampler cannot choose, and any other
        exception of a step of this request.
        """
        submitted: float | None = time.perf_counter()
        self.queue.append(request)
        shown, reported = -1, 0.0
        try:
            while True:
                if not (request.results or request.finished):
                    self._wait(request)
                if request.results:
                    result = request.results.popleft()
                    if isinstance(result, Exception):
                        raise result
                    if submitted is not None:
                        STATISTICS.add_first_chunk(time.perf_counter() - submitted)
                        submitted = None
                    yield result
                elif request.finished:
                    return
                elif (position := self._queue_position(request)) is not None:
                    now = time.perf_counter()
                    on_executor = self.executor and self.executor.is_current()
                    if position != shown or on_executor or now - reported > REPORT_SECONDS:
                        shown, reported = position, now
                        yield Queued(position)
        finally:
            # The next step reads this. No lock, because the garbage collector may close the iterator in any thread.
            request.finished = True

    def _wait(self, request: Request) -> None:
        """Returns when there may be a new result: after one step on this thread, or some on the executor's.

        Only a thread that computes takes the step lock, so that its holder never waits for another thread.
        """
        if self.executor is None or self.executor.is_current():
            with self._step_lock:
                if not (request.results or request.finished):
                    self._step()
            return
        request.updated.clear()
        if request.results or request.finished:
            return
        self._schedule()
        request.updated.wait()

    def _schedule(self) -> None:
        """Makes sure that the executor runs steps."""
        with self._schedule_lock:
            if self._scheduled:
                return
            assert self.executor
            self.executor.submit(self._run_burst)
            self._scheduled = True

    def _run_burst(self) -> None:
        """Runs steps for ``BURST_SECONDS`` on the executor, and schedules more as long as a request needs them."""
        until = time.perf_counter() + BURST_SECONDS
        try:
            with self._step_lock:
                self._step()
                while self._has_work() and time.perf_counter() < until + FIRST_STEP_SECONDS * self._has_new_request():
                    self._step()
        except Exception as error:  # an error of the scheduler itself must reach every waiting caller
            self.cancel(error)
        finally:
            with self._schedule_lock:
                # A caller that waits from here on either counts as work or schedules a burst itself.
                self._scheduled = False
                more = self._has_work()
            for request in [*self.running, *self.queue]:
                request.updated.set()
        if more:
            try:
                self._schedule()  # after the work that is already in the executor's queue
            except RuntimeError as error:  # the executor was shut down
                self.cancel(error)

    def cancel(self, error: Exception) -> None:
        """Ends every running and queued request with an error, after the results that its caller has not taken."""
        for request in [*self.running, *self.queue]:
            if not request.finished:
                request.finish(error)

    def _has_work(self) -> bool:
        return bool(self._below_limit() or self.queue)

    def _has_new_request(self) -> bool:
        return any(request.is_new and not request.finished for request in self.running)

    def _below_limit(self) -> list[Request]:
        """The running requests that have fewer results than the limit."""
        return [request for request in self.running if not request.finished and len(request.results) < UNREAD_LIMIT]

    def _active(self) -> list[Request]:
        """The requests of a step. Those at the limit pause, unless another one waits for their slot."""
        if self.queue:
            return [request for request in self.running if not request.finished]
        return self._below_limit()

    def _queue_position(self, request: Request) -> int | None:
        """Number of requests ahead of this one in the queue; None once it runs."""
        waiting = [other for other in list(self.queue) if not other.finished or other is request]
        return waiting.index(request) if request in waiting else None

    @torch.inference_mode()
    def _step(self) -> None:
        """Draws once for each active request; the backbone then reads the chunks of those that could choose.

        A request that needs many draws therefore does not delay the others.
        """
        start, active = time.perf_counter(), self._active()
        self.backbone.use_threads(torch.get_num_threads())
        for request in active:
            if request.state is not None and request.replayed:
                request.state, request.unread, request.seconds = None, [request.replayed.popleft()], 0.0
            if request.run is None:
                self._start_run(request)
            else:
                self._take_run(request, request.run, start)
        drawing = [r for r in self._active() if r.state is not None and r.run is None]
        for request, outcome in self._try(drawing, self._draw):
            if isinstance(outcome, Choice):
                request.state, request.unread = None, [outcome.token_ids]
            if outcome is not None:
                self._add_outcomes(request, [outcome], start)
        self._read()  # within this step, so that the GPU works while callers take their results
        for request in active:
            if self.backbone.waits_for_runs and request.run is not None:
                self._take_run(request, request.run, start)
        elapsed = time.perf_counter() - start
        for request in {*active, *self._active()}:  # those that this step has made pause, and those that have joined
            request.seconds += elapsed

    def _add_outcomes(self, request: Request, outcomes: Sequence[Outcome], start: float) -> None:
        """Adds the outcomes of the step that began at ``start`` to a request, up to the end of its text."""
        now = time.perf_counter()
        seconds = (request.seconds + now - start) / len(outcomes)
        request.seconds = start - now  # the rest of this step belongs to the next choice
        request.is_new = False
        for outcome in outcomes:
            if not isinstance(outcome, Choice):
                request.finish(outcome)
                return
            request.results.append(Generated(outcome, seconds))
            STATISTICS.add_step(len(outcome.token_ids), outcome.draws)
            request.steps -= 1
            if not request.steps or self.text_format.end_position(outcome.token_ids) is not None:
                request.finish()
                return

    def _start_run(self, request: Request, skipped: int = 0) -> None:
        """Starts a run, if the request is alone and no step of it needs a decision: several chunks are drawn and read,
        one after another, and Python waits once (vLLM calls it multi-step scheduling). ``skipped`` steps of the last
        run are not taken yet.

        Only slot 0 has runs, because a step of one row computes the first slot."""
        if not self.run_steps or request.is_new or request.state is None or request.slot or request.replayed:
            return
        if request.finished or self.queue or self._active() != [request] or not request.sampler.takes_first_draw:
            return
        steps = min(request.run_length, self.run_steps, request.steps - skipped, self.backbone.run_limit())
        if steps < 1:
            return
        began = time.perf_counter()
        try:
            numbers = request.sampler.upcoming(skipped, steps, self._layers, request.state)
            request.run, request.state = self.backbone.run(self._layers, request.state, numbers, self._ends)
        except Exception:  # for example no memory for a graph
            logger.warning("Several steps at once failed, so every step runs alone.", exc_info=True)
            self.run_steps = 0
        slow = self.backbone.waits_for_runs and time.perf_counter() - began > RUN_SECONDS
        request.run_length = 1 if slow else 2 * steps

    def _take_run(self, request: Request, run: Tensor, start: float) -> None:
        """Takes the choices of a run."""
        try:
            table, request.run = run.cpu(), None
            if not self.backbone.waits_for_runs:
                table = self._continue_run(request, table)
            self._add_outcomes(request, self._take(table, request.sampler), start)
        except Exception as error:
            request.finish(error)

    def _continue_run(self, request: Request, table: Tensor) -> Tensor:
        """The rows [n, C] of a run up to the end of the text. If they have no end, this starts the next run, so that
        the GPU works while Python takes the choices."""
        for i, chunk in enumerate(table[:, : self.chunk_size].long().tolist(), 1):
            if self.text_format.end_position(chunk) is not None:
                return table[:i]
        self._start_run(request, len(table))
        return table

    def _try(
        self, requests: list[Request], work: Callable[[list[Request]], Sequence[Result]]
    ) -> Iterable[tuple[Request, Result]]:
        """The result of ``work`` for each request. If a call for several requests fails, each one is computed alone,
        and the result of a request that still fails is its exception."""
        if not requests:
            return []
        try:
            return zip(requests, work(requests))
        except Exception as error:
            if len(requests) == 1:
                requests[0].finish(error)
                return []
        return [pair for request in requests for pair in self._try([request], work)]

    def _draw(self, requests: list[Request]) -> list[Outcome]:
        states = torch.stack([request.state for request in requests if request.state is not None])
        return self._sample(states, [request.sampler for request in requests])

    def _read(self) -> None:
        """One backbone step for the requests with unread chunks, if they are at least half of the active ones.

        A step of few requests takes nearly as long as one of many, and the others will soon have chosen. A new request
        does not wait for them, because they may need many draws.
        """
        self._fill_slots()
        active = self._active()
        requests = [request for request in active if request.state is None]
        if 2 * len(requests) < len(active) and not any(request.is_new for request in requests):
            return
        for request, state in self._try(requests, self._backbone_step):
            request.state = state

    def _backbone_step(self, requests: list[Request]) -> Sequence[Tensor]:
        chunks = torch.tensor([chunk for request in requests for chunk in request.unread])
        slots, counts = [request.slot for request in requests], [len(request.unread) for request in requests]
        return self.backbone.step(slots, counts, chunks)

    def _fill_slots(self) -> None:
        """Moves requests from the queue to free slots. The client with the fewest slots comes first, then the order of
        arrival; a client leaves ``RESERVED_SLOTS`` to others."""
        for ended in (request for request in self.running if request.finished):
            self.backbone.reset(ended.slot)  # the position of an idle slot would limit the runs of others
        self.running = [request for request in self.running if not request.finished]
        if not self.queue:
            return
        free = sorted(set(range(self.slots)) - {request.slot for request in self.running})
        while free and (request := self._next_in_queue()):
            request.slot, ids = free.pop(0), iter(request.token_ids)
            request.unread = list(zip(*[ids] * self.chunk_size))
            self.backbone.reset(request.slot)
            self.running.append(request)

    def _next_in_queue(self) -> Request | None:
        """Takes the next request that may run from the queue."""
        held = Counter(request.client for request in self.running)
        held[""] = 0
        waiting = [request for request in list(self.queue) if not request.finished]
        most = max(1, self.slots - RESERVED_SLOTS)
        chosen = min((r for r in waiting if held[r.client] < most), key=lambda r: held[r.client], default=None)
        for request in list(self.queue):
            if request is chosen or request.finished:
                self.queue.remove(request)
        return chosen
