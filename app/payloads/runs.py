"""Builds ``RunPayload``: the text of a run, the pool of each step, and the positions of its vectors on the map."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import TYPE_CHECKING, cast

import numpy as np

import calm
from calm.hub.tokenization import LONGEST_CHARACTER, labels

from ..backends import LoadedModel
from ..limits import SHOWN_CANDIDATES
from ..story_prompts import suggested_prompts
from .latent import map_positions, rounded
from .origins import BranchPoint, GenerationSettings, RunOrigin
from .types import (
    BranchRequest,
    CandidatePayload,
    Pool,
    PromptChunk,
    RunPayload,
    StepPayload,
)

if TYPE_CHECKING:
    from calm import Candidate, GenerationOptions, LanguageModel, Queued, Step

END_OF_TEXT = "∎"
REPLACEMENT = "\ufffd"
"""In the text of a candidate, it replaces bytes of an incomplete character."""


def pool(
    lm: LanguageModel, candidates: Sequence[Candidate], chosen: Sequence[int], prefix_chunks: Sequence[Sequence[int]]
) -> Pool:
    """The most frequent candidates, including the one with the token ids ``chosen``, and the counts of the others.

    ``prefix_chunks`` are the chunks before the step. They may end with the first bytes of a character that a candidate
    completes.
    JavaScript computes the probabilities at a temperature from all counts (``temper``).
    """
    before = _last_tokens(prefix_chunks)
    every = [_candidate(lm, c, chosen, before) for c in sorted(candidates, key=lambda c: -c.count)]
    shown = every[:SHOWN_CANDIDATES]
    if not any(c["chosen"] for c in shown):
        shown[-1:] = [c for c in every if c["chosen"]] or shown[-1:]
    rest = Counter(c["count"] for c in every if c not in shown)
    return {"candidates": shown, "other_counts": [list(pair) for pair in sorted(rest.items(), reverse=True)]}


def _last_tokens(chunks: Sequence[Sequence[int]]) -> list[int]:
    """Token ids at the end of chunks, enough for a character that the next token completes."""
    return [i for chunk in chunks[-LONGEST_CHARACTER:] for i in chunk][-LONGEST_CHARACTER:]


def _candidate(
    lm: LanguageModel, candidate: Candidate, chosen: Sequence[int], before: Sequence[int]
) -> CandidatePayload:
    text, end = candidate.text, lm.text_format.end_position(candidate.token_ids)
    if REPLACEMENT in text:
        text = lm.label(candidate.token_ids, before)
    if end is not None:
        first, after_end = candidate.token_ids[:end], candidate.token_ids[end + 1 :]
        text = lm.label(first, before) + END_OF_TEXT + lm.label(after_end)
    payload: CandidatePayload = {
        "text": text,
        "count": candidate.count,
        "token_ids": list(candidate.token_ids),
        "chosen": list(candidate.token_ids) == list(chosen),
    }
    if not lm.is_calm:
        payload["probability"] = round(candidate.probability, 5)
    return payload


def prompt_chunk_ids(lm: LanguageModel, prompt: str) -> list[list[int]]:
    """The chunks of a prompt [n, K], aligned as generation aligns them, without those that are padding alone."""
    from calm.generation import align

    k, start = lm.chunk_size, lm.text_format.start_id
    ids, _ = align(lm, lm.tokenize(prompt))
    chunks = [ids[i : i + k] for i in range(0, len(ids), k)]
    return [chunk for chunk in chunks if any(i != start for i in chunk)]


class Run:
    """A run that grows step by step; the page shows its ``payload``."""

    def __init__(self, model: LoadedModel, prompt: str, options: GenerationOptions):
        self.model, self.lm, self.map = model, model.lm, model.map
        self.prompt, self.options = prompt, options
        self.queued: Queued | None = None
        """The last position in the queue, until the first step."""
        self.draws = 0
        """Samples of all steps."""
        self.vectors: list[list[float]] = []  # sent once, at the end: Gradio compares the whole payload at each update
        self._new: list[Step] = []

    @cached_property
    def _payload(self) -> RunPayload:
        """The run before its first step. The first use encodes the prompt, while the engine already generates."""
        plain = {name: value for name, value in asdict(self.options).items() if name != "prefix_chunks"}
        settings, name = cast(GenerationSettings, plain), self.model.name
        return {
            "run_id": uuid.uuid4().hex[:12],  # unique among restarts, and among the forked workers of ZeroGPU
            "model": name,
            "prompt": self.prompt,
            "options": settings,
            "origin": {"model": name, "prompt": self.prompt, "options": settings, "branches": []},
            "steps": [],
            "ended": False,
            "parent": None,
            "prompt_chunks": self._prompt_chunks(self.prompt),
            "finished": False,
            "status": "",
            "suggestions": suggested_prompts(name, self.prompt),
        }

    @property
    def payload(self) -> RunPayload:
        """All steps so far. The chunks of new steps are encoded in one call, which costs little more than one chunk."""
        if self._new:
            self._add_steps(self._new)
            self._new = []
        return self._payload

    def finished(self, status: str) -> RunPayload:
        """The payload of the complete run, with its vectors and its status line.

        The branch of a run that was stopped has no vectors, because the page never received those before the branch.
        """
        payload = self.payload
        vectors = self.vectors if len(self.vectors) == len(payload["steps"]) else []
        return {**payload, "vectors": vectors, "finished": True, "status": status}

    def add(self, event: Step | Queued) -> None:
        """Adds the next step, or the new position in the queue."""
        if isinstance(event, calm.Queued):
            self.queued = event
        else:
            self.queued = None
            self.draws += event.draws
            self._new.append(event)

    def branch_off(self, request: BranchRequest) -> list[list[int]]:
        """Copies the steps of another run up to one step, and replaces its chunk by another candidate of its pool.

        Returns the token ids of all chunks so far. Raises CalmError if the request is inconsistent.
        """
        from calm.generation import join_chunks

        try:
            *earlier, replaced = request["steps"]
            self.vectors = list(request["vectors"][: len(earlier)])
            choice, other_counts = request["choice"], request["pool"]["other_counts"]
            candidates = request["pool"]["candidates"]
            token_ids = list(candidates[choice]["token_ids"])
            prefix = [*(step["token_ids"] for step in earlier), token_ids]
            join_chunks(self.lm, prefix)  # raises CalmError for chunks of another model
            if len(prefix) > self.lm.context_length:
                raise ValueError("The text is too long.")
            step = self._step(replaced["index"], token_ids, prefix[:-1])
            step["candidates"] = [
                cast(CandidatePayload, {**c, "chosen": i == choice}) for i, c in enumerate(candidates)
            ]
            step["other_counts"] = other_counts
            step["draws"] = sum(c["count"] for c in candidates) + sum(count * chunks for count, chunks in other_counts)
            step["chosen_by_hand"] = True
            if self.lm.is_calm:
                encoded = self.model.encode([token_ids]).mean
                self._add_positions([step], encoded, encoded)
            parent = {"run_id": request["run_id"], "step_index": replaced["index"]}
            origin = _with_branch(request["origin"], replaced["index"], token_ids, self.payload["options"])
            changes = {"parent": parent, "origin": origin, "steps": [*earlier, step], "ended": step["ended"]}
            self._payload = cast(RunPayload, {**self._payload, **changes})
            self.draws = sum(step["draws"] for step in self._payload["steps"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise calm.CalmError("A branch must continue from a step of an existing run.") from error
        return prefix

    def _prompt_chunks(self, prompt: str) -> list[PromptChunk]:
        """The chunks of the prompt on the map, aligned as generation aligns them."""
        if self.map is None:
            return []
        chunks = prompt_chunk_ids(self.lm, prompt)
        positions = map_positions(self.map, list(self.model.encode(chunks).mean)) if chunks else []
        texts = labels(list(map(self.lm.token_bytes, chunks)))
        return [{"text": text, "encoded": at} for text, at in zip(texts, positions)]

    def _step(self, index: int, token_ids: list[int], prefix_chunks: Sequence[Sequence[int]]) -> StepPayload:
        """The fields of a step that follow from its token ids and those before it; the caller fills in the others."""
        before, stream, text_format = _last_tokens(prefix_chunks), self.lm.text_stream(), self.lm.text_format
        stream.add(before)
        end, tokens = text_format.end_position(token_ids), self.lm.token_labels(token_ids, before)
        return {
            "index": index,
            "text": stream.add(token_ids[:end], end is not None),
            "tokens": [END_OF_TEXT if i in text_format.end_ids else label for i, label in zip(token_ids, tokens)],
            "token_ids": token_ids,
            "seconds": 0.0,
            "ended": end is not None,
            "draws": 0,
            "candidates": [],
            "other_counts": [],
        }

    def _add_positions(self, steps: Sequence[StepPayload], predicted: np.ndarray, encoded: np.ndarray) -> None:
        """Adds the prediction error of each step and, with a map, the positions of both vectors [n, L]."""
        self.vectors += rounded(predicted)
        for step, distance in zip(steps, np.linalg.norm(predicted - encoded, axis=-1)):
            step["distance"] = round(float(distance), 4)
        if self.map is not None:
            positions = map_positions(self.map, [*predicted, *encoded])
            for step, *step_positions in zip(steps, positions, positions[len(steps) :]):
                step["predicted"], step["encoded"] = step_positions
                step["frequency"] = self.map.count_of(step["text"])

    def _add_steps(self, events: Sequence[Step]) -> None:
        steps = list(self._payload["steps"])
        for event in events:
            prefix = [before["token_ids"] for before in steps[-LONGEST_CHARACTER:]]
            step = self._step(len(steps), event.token_ids, prefix)
            step["text"] = event.text  # without the end of the prompt, where the first chunk repeats it
            step["draws"] = event.draws
            step["seconds"] = round(event.seconds, 4)
            opened = pool(self.lm, event.candidates, event.token_ids, prefix)
            step["candidates"], step["other_counts"] = opened["candidates"], opened["other_counts"]
            steps.append(step)
        vectors = [event.vector for event in events if event.vector is not None]
        if vectors:
            self._add_positions(steps[-len(events) :], np.stack(vectors), self.model.encoded(events))
        # A new list, because Gradio compares each payload with the one before.
        self._payload = {**self._payload, "steps": steps, "ended": steps[-1]["ended"]}


def _with_branch(origin: RunOrigin, index: int, token_ids: list[int], options: GenerationSettings) -> RunOrigin:
    """The origin of a branch at a step. Earlier branches at this step or behind it no longer matter."""
    kept = [point for point in origin["branches"] if point["step_index"] < index]
    point: BranchPoint = {"step_index": index, "token_ids": token_ids, "options": options}
    return {**origin, "branches": [*kept, point]}


def with_samples(payloads: Sequence[RunPayload]) -> RunPayload:
    """The first run, with the others as its ``samples``."""
    return {**payloads[0], "samples": list(payloads[1:])}
