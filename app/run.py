"""One run as the page sees it: its text, the pool of each step, and where its vectors lie on the map."""

from __future__ import annotations

import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

import calm
from calm.vector_map import VectorMap

from .registry import Resident

if TYPE_CHECKING:
    from calm import Candidate, GenerationOptions, LanguageModel, Queued, Step

SHOWN_CANDIDATES = 8
_VISIT = uuid.uuid4().hex[:6]  # so that runs that a page remembers from before a restart keep their own names
_run_numbers = itertools.count(1)


def places(map_: VectorMap, vectors: Sequence[np.ndarray]) -> list[dict[str, list[float]]]:
    """Where vectors lie on a map: in the plane, in space, and along its principal directions."""
    stacked = np.stack(vectors)
    along = map_.project(stacked, 3)
    found = zip(*map_.transform(stacked), along)
    return [{"plane": rounded(p), "space": rounded(s), "principal": rounded(a)} for p, s, a in found]


def rounded(numbers: np.ndarray, digits: int = 3) -> list[float]:
    return np.round(numbers.astype(float), digits).tolist()


def pool(lm: LanguageModel, candidates: Sequence[Candidate], chosen: Sequence[int]) -> dict[str, Any]:
    """The commonest candidates of a step, with the chosen one among them, and of the others how many were drawn how
    often, as pairs of count and number of chunks.

    The page reckons what a temperature makes of these counts (``CALM.temper``). A token-by-token model draws no pool
    and knows the probability of each candidate instead.
    """
    eos = lm.tokenizer.eos_token_id
    told = [
        {
            "text": c.text + ("∎" if eos in c.token_ids else ""),
            "count": c.count,
            "ids": list(c.token_ids),
            "chosen": list(c.token_ids) == list(chosen),
            **({} if lm.is_calm else {"probability": round(c.probability, 5)}),
        }
        for c in sorted(candidates, key=lambda c: -c.count)
    ]
    shown = told[:SHOWN_CANDIDATES]
    if not any(c["chosen"] for c in shown):
        shown[-1:] = [c for c in told if c["chosen"]] or shown[-1:]
    rest = (c["count"] for c in told if c not in shown)
    return {"candidates": shown, "others": sorted(Counter(rest).items(), reverse=True)}


def _total(others: Sequence[Sequence[int]]) -> int:
    return sum(count * chunks for count, chunks in others)


class Run:
    """One run as the page sees it, growing step by step."""

    def __init__(self, model: Resident, prompt: str, options: GenerationOptions):
        self.lm, self.map = model.lm, model.map
        self.waiting: Queued | None = None
        self.vectors: list[list[float]] = []  # apart from the value, which is compared as a whole whenever it is sent
        self.value: dict[str, Any] = {
            "run": f"{_VISIT}-{next(_run_numbers)}",
            "model": model.name,
            "prompt": prompt,
            "temperature": options.temperature,
            "options": {k: v for k, v in asdict(options).items() if k != "prefix_chunks"},
            "steps": [],
            "ended": False,
            "parent": None,
            "told": "",
            "prompt_chunks": self._prompt_chunks(prompt),
        }

    def _prompt_chunks(self, prompt: str) -> list[dict[str, Any]]:
        """The latent of each chunk of the prompt, aligned as generation aligns it."""
        from calm.generation import align

        if self.map is None:
            return []
        ids, _ = align(self.lm, self.lm.tokenize(prompt))
        k = self.lm.chunk_size
        chunks = [ids[i : i + k] for i in range(0, len(ids), k)]
        chunks = [chunk for chunk in chunks if any(i != self.lm.tokenizer.eos_token_id for i in chunk)]
        where = places(self.map, list(self._means(chunks))) if chunks else []
        return [{"text": self.lm.detokenize(c), **p} for c, p in zip(chunks, where)]

    def _means(self, chunks: list[list[int]]) -> np.ndarray:
        """The posterior means of chunks [n, L]: what the autoencoder would have said."""
        import torch

        with torch.no_grad():
            ids = torch.tensor(chunks, device=self.lm.device)
            return self.lm.calm.ae_model.encode(ids)[0].float().cpu().numpy()

    def _placed(self, vector: np.ndarray, encoded: np.ndarray, text: str) -> dict[str, Any]:
        """How far the vector of a step lies from what the autoencoder makes of its chunk, and where both lie on the
        map, if there is one."""
        distance = round(float(np.linalg.norm(vector - encoded)), 4)
        self.vectors.append(rounded(vector))
        if self.map is None:
            return {"distance": distance}
        drawn, said = places(self.map, [vector, encoded])
        return {**drawn, "encoded": said, "distance": distance, "frequency": self.map.count_of(text)}

    def leave(self, branch: dict[str, Any]) -> list[list[int]]:
        """Begins as another run did, up to a step at which another candidate of its pool is taken.

        ``branch`` comes from the page: ``run``, ``steps`` (up to and with the one that is left), their ``vectors`` and
        ``choice``, a candidate of its ``pool``. Returns the ids of all chunks so far. Raises CalmError if these do not
        fit together.
        """
        try:
            *kept, left = branch["steps"]
            self.vectors = list(branch["vectors"][: len(kept)])
            opened = branch["pool"]
            ids = list(opened["candidates"][branch["choice"]]["ids"])
            candidates = [{**c, "chosen": i == branch["choice"]} for i, c in enumerate(opened["candidates"])]
            self.value["parent"] = {"run": branch["run"], "index": left["index"]}
            begun = [*(step["ids"] for step in kept), ids]
            if len(ids) != self.lm.chunk_size or len(begun) > self.lm.context_length:
                raise ValueError
            entry = self._entry(left["index"], ids) | {"candidates": candidates, "others": opened["others"]}
            entry |= {"draws": sum(c["count"] for c in candidates) + _total(opened["others"]), "by_hand": True}
            if self.lm.is_calm:
                mean = self._means([ids])[0]
                entry |= self._placed(mean, mean, entry["text"])
            self.value |= {"steps": [*kept, entry], "ended": entry["end"]}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise calm.CalmError("A text can only go on from a step of its own.") from error
        return begun

    def _entry(self, index: int, ids: list[int]) -> dict[str, Any]:
        """What the page shows of a chunk wherever it comes from."""
        eos = self.lm.tokenizer.eos_token_id
        return {
            "index": index,
            "text": self.lm.detokenize(ids[: ids.index(eos)] if eos in ids else ids),
            "tokens": ["∎" if i == eos else self.lm.detokenize([i]) for i in ids],
            "seconds": 0.0,
            "ids": ids,
            "end": eos in ids,
        }

    def add(self, event: Step | Queued) -> None:
        """Takes the next step, or the news that the run has to wait for one."""
        if isinstance(event, calm.Queued):
            self.waiting = event
        else:
            self.waiting = None
            self._add_step(event)

    def _add_step(self, step: Step) -> None:
        steps = self.value["steps"]
        entry = self._entry(len(steps), step.token_ids) | {
            "text": step.text,  # without the bytes that wait for the rest of a character
            "draws": step.draws,
            "seconds": round(step.seconds, 4),
            **pool(self.lm, step.candidates, step.token_ids),
        }
        if step.vector is not None:
            entry |= self._placed(step.vector, self._means([step.token_ids])[0], step.text)
        # A fresh list, because what was already yielded must not change under Gradio's comparison of values.
        self.value = {**self.value, "steps": [*steps, entry], "ended": entry["end"]}
