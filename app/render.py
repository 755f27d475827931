"""Turns results of ``calm`` into what the page's components draw: plain dictionaries and short HTML."""

from __future__ import annotations

import html
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import calm
from calm.maps import VectorMap

from .models import Facts

if TYPE_CHECKING:
    from calm import Candidate, LanguageModel, Reconstruction, Step, Waiting

SHOWN_CANDIDATES = 8
_run_numbers = itertools.count(1)


def _places(map_: VectorMap, vectors: Sequence[np.ndarray]) -> list[dict[str, list[float]]]:
    stacked = np.stack(vectors)
    plane, space = map_.place(stacked, 2), map_.place(stacked, 3)
    return [{"plane": _round(p), "space": _round(s)} for p, s in zip(plane, space)]


def _round(numbers: np.ndarray, digits: int = 3) -> list[float]:
    return np.round(numbers.astype(float), digits).tolist()


def pool(lm: LanguageModel, candidates: Sequence[Candidate], chosen: Sequence[int]) -> dict[str, Any]:
    """The commonest candidates of a step, with the chosen one among them, and how often each of the others was drawn.

    The page reckons what a temperature makes of these counts (``CALM.temper``).
    """
    eos = lm.tokenizer.eos_token_id
    told = [
        {
            "text": c.text + ("∎" if eos in c.token_ids else ""),
            "count": c.count,
            "ids": list(c.token_ids),
            "chosen": list(c.token_ids) == list(chosen),
        }
        for c in sorted(candidates, key=lambda c: -c.count)
    ]
    shown = told[:SHOWN_CANDIDATES]
    if not any(c["chosen"] for c in shown):
        shown[-1:] = [c for c in told if c["chosen"]] or shown[-1:]
    return {"candidates": shown, "others": [c["count"] for c in told if c not in shown]}


class Run:
    """One run as the page sees it, growing step by step."""

    def __init__(self, lm: LanguageModel, map_: VectorMap, prompt: str, temperature: float):
        self.lm, self.map = lm, map_
        self.waiting: Waiting | None = None
        self.value: dict[str, Any] = {
            "run": next(_run_numbers),
            "prompt": prompt,
            "temperature": temperature,
            "steps": [],
            "ended": False,
            "parent": None,
            "told": "",
            "prompt_chunks": self._prompt_chunks(prompt),
        }

    def _prompt_chunks(self, prompt: str) -> list[dict[str, Any]]:
        """The latent of each chunk of the prompt, aligned as generation aligns it."""
        from calm.generation import align

        ids, _ = align(self.lm, self.lm.encode(prompt))
        k = self.lm.chunk_size
        chunks = [ids[i : i + k] for i in range(0, len(ids), k)]
        chunks = [chunk for chunk in chunks if any(i != self.lm.tokenizer.eos_token_id for i in chunk)]
        return [{"text": self.lm.decode(c), **p} for c, p in zip(chunks, self._encoded(chunks))]

    def _encoded(self, chunks: list[list[int]]) -> list[dict[str, list[float]]]:
        """Where the posterior means of chunks lie on the map."""
        import torch

        if not chunks:
            return []
        with torch.no_grad():
            mean = self.lm.calm.ae_model.encode(torch.tensor(chunks, device=self.lm.device))[0].float().cpu().numpy()
        return _places(self.map, list(mean))

    def leave(self, branch: dict[str, Any]) -> list[list[int]]:
        """Begins as another run did, up to a step at which another candidate of its pool is taken.

        ``branch`` comes from the page: ``run``, ``steps`` (up to and with the one that is left) and ``choice``, a
        candidate of its ``pool``. Returns the ids of all chunks so far. Raises CalmError if these do not fit together.
        """
        try:
            *kept, left = branch["steps"]
            opened = branch["pool"]
            ids = list(opened["candidates"][branch["choice"]]["ids"])
            candidates = [{**c, "chosen": i == branch["choice"]} for i, c in enumerate(opened["candidates"])]
            self.value["parent"] = {"run": branch["run"], "index": left["index"]}
            begun = [*(step["ids"] for step in kept), ids]
            if len(ids) != self.lm.chunk_size or len(begun) > self.lm.context:
                raise ValueError
            entry = self._entry(left["index"], ids) | {"candidates": candidates, "others": opened["others"]}
            entry |= {"draws": sum(c["count"] for c in candidates) + sum(opened["others"]), "by_hand": True}
            self.value |= {"steps": [*kept, entry | self._encoded([ids])[0]], "ended": entry["end"]}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise calm.CalmError("A text can only go on from a step of its own.") from error
        return begun

    def _entry(self, index: int, ids: list[int]) -> dict[str, Any]:
        """What the page shows of a chunk wherever it comes from."""
        eos = self.lm.tokenizer.eos_token_id
        return {
            "index": index,
            "text": self.lm.decode(ids[: ids.index(eos)] if eos in ids else ids),
            "tokens": ["∎" if i == eos else self.lm.decode([i]) for i in ids],
            "seconds": 0.0,
            "ids": ids,
            "end": eos in ids,
        }

    def add(self, event: Step | Waiting) -> None:
        """Takes the next step, or the news that the run has to wait for one."""
        if isinstance(event, calm.Waiting):
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
            entry |= _places(self.map, [step.vector])[0]
        # A fresh list, because what was already yielded must not change under Gradio's comparison of values.
        self.value = {**self.value, "steps": [*steps, entry], "ended": entry["end"]}

    def summary(self, running: bool = False) -> str:
        """One line of figures: steps, tokens, tokens a second, and what a token-by-token model would have needed."""
        steps = self.value["steps"]
        if self.waiting:
            ahead = self.waiting.ahead
            return note(f"Waiting for a place: {ahead or 'no'} text{'s' * (ahead != 1)} before this one …")
        if not steps:
            return note("Reading the prompt …" if running else "")
        tokens = len(steps) * self.lm.chunk_size
        seconds = sum(step["seconds"] for step in steps)
        draws = sum(step["draws"] for step in steps) / len(steps)
        parts = [
            f"<strong>{len(steps)}</strong> steps",
            f"<strong>{tokens}</strong> tokens",
            f"<strong>{tokens / seconds:.0f}</strong> tokens a second",
            f"{draws:.0f} vectors drawn a step",
            f"token by token it would have taken <strong>{tokens}</strong> steps",
        ]
        return note(("Writing … " if running else "") + " · ".join(parts))


def note(content: str) -> str:
    """A quiet line; its content is HTML."""
    return f'<p class="calm-note" role="status">{content}</p>'


def error(message: object) -> str:
    """One sentence where the visitor is looking."""
    return f'<p class="calm-note calm-error" role="alert">{html.escape(str(message))}</p>'


def header(model: Facts, lm: LanguageModel | None = None) -> str:
    """What CALM is in one sentence, and which model is resident: where it runs is known once it is loaded."""
    rows = {
        "model": model.name,
        "parameters": f"{model.parameters / 1e6:.1f} M",
        "K": f"{model.chunk_size} tokens a vector",
        "device": str(lm.device) if lm else "loading …",
        "dtype": str(lm.dtype).removeprefix("torch.") if lm else "loading …",
    }
    facts = "".join(f"<div><dt>{name}</dt><dd>{html.escape(fact)}</dd></div>" for name, fact in rows.items())
    return f"""<header class="calm-header">
<h1>CALM Playground</h1>
<p>A Continuous Autoregressive Language Model writes one <em>vector</em> at a time instead of one token: each vector
stands for a chunk of {model.chunk_size} tokens, so a text takes {model.chunk_size} times fewer steps.
This one speaks Storyland, a small language of simple stories, and nothing else.</p>
<dl class="calm-facts">{facts}</dl>
</header>"""


def reconstruction(lm: LanguageModel, found: Reconstruction) -> dict[str, Any]:
    """Each chunk beside what was restored, token by token, with its posterior."""
    chunks = []
    for chunk in found.chunks:
        pairs = zip(chunk.token_ids, chunk.decoded_ids)
        chunks.append(
            {
                "text": chunk.text,
                "decoded": chunk.decoded_text,
                # A chunk restored exactly is shown as its text: a token may hold only part of a character.
                "tokens": [[chunk.text, chunk.text, True]]
                if chunk.exact
                else [[lm.decode([a]), lm.decode([b]), a == b] for a, b in pairs],
                "mean": _round(chunk.mean),
                "std": _round(chunk.std),
                "exact": chunk.exact,
            }
        )
    return {"chunks": chunks}


def reconstruction_summary(found: Reconstruction, noise: float) -> str:
    exact = sum(chunk.exact for chunk in found.chunks)
    disturbed = f"with noise of {noise:.2f} added to each mean" if noise else "from the clean mean"
    return note(
        f"<strong>{found.token_accuracy:.2%}</strong> of {found.tokens} tokens and <strong>{found.chunk_accuracy:.2%}"
        f"</strong> of {len(found.chunks)} chunks ({exact}) restored {disturbed}"
    )
