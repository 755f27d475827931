"""Turns results of ``calm`` into what the page's components draw: plain dictionaries and short HTML."""

from __future__ import annotations

import html
import itertools
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

import calm
from calm.maps import VectorMap

from .models import Facts, Resident

if TYPE_CHECKING:
    from calm import BrierLM, Candidate, LanguageModel, Options, Reconstruction, Step, Waiting

    from .evaluate_tab import Measured

SHOWN_CANDIDATES = 8
_VISIT = uuid.uuid4().hex[:6]  # so that runs that a page remembers from before a restart keep their own names
_run_numbers = itertools.count(1)


def _places(map_: VectorMap, vectors: Sequence[np.ndarray]) -> list[dict[str, list[float]]]:
    stacked = np.stack(vectors)
    along = map_.project(stacked, 3)
    places = zip(map_.place(stacked, 2), map_.place(stacked, 3), along)
    return [{"plane": _round(p), "space": _round(s), "principal": _round(a)} for p, s, a in places]


def _round(numbers: np.ndarray, digits: int = 3) -> list[float]:
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

    def __init__(self, model: Resident, prompt: str, options: Options):
        self.lm, self.map = model.lm, model.map
        self.waiting: Waiting | None = None
        self.vectors: list[list[float]] = []  # apart from the value, which is compared as a whole whenever it is sent
        self.value: dict[str, Any] = {
            "run": f"{_VISIT}-{next(_run_numbers)}",
            "model": model.name,
            "prompt": prompt,
            "temperature": options.temperature,
            "options": {k: v for k, v in asdict(options).items() if k != "begun"},
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
        ids, _ = align(self.lm, self.lm.encode(prompt))
        k = self.lm.chunk_size
        chunks = [ids[i : i + k] for i in range(0, len(ids), k)]
        chunks = [chunk for chunk in chunks if any(i != self.lm.tokenizer.eos_token_id for i in chunk)]
        places = _places(self.map, list(self._means(chunks))) if chunks else []
        return [{"text": self.lm.decode(c), **p} for c, p in zip(chunks, places)]

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
        self.vectors.append(_round(vector))
        if self.map is None:
            return {"distance": distance}
        drawn, said = _places(self.map, [vector, encoded])
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
            if len(ids) != self.lm.chunk_size or len(begun) > self.lm.context:
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
            entry |= self._placed(step.vector, self._means([step.token_ids])[0], step.text)
        # A fresh list, because what was already yielded must not change under Gradio's comparison of values.
        self.value = {**self.value, "steps": [*steps, entry], "ended": entry["end"]}


def summary(runs: Sequence[Run], running: bool = False) -> str:
    """One line of figures: steps, tokens, tokens a second, and what a token-by-token model would have needed."""
    waiting = [run.waiting.ahead for run in runs if run.waiting]
    steps = [step for run in runs for step in run.value["steps"]]
    if waiting and not steps:
        ahead = min(waiting)
        return note(f"Waiting for a place: {ahead or 'no'} text{'s' * (ahead != 1)} before this one …")
    if not steps:
        return note("Reading the prompt …" if running else "")
    tokens = len(steps) * runs[0].lm.chunk_size
    # Samples are written together: each second of one is a second of all.
    seconds = max(sum(step["seconds"] for step in run.value["steps"]) for run in runs)
    draws = sum(step["draws"] for step in steps) / len(steps)
    parts = [
        f"<strong>{len(steps)}</strong> steps",
        f"<strong>{tokens}</strong> tokens",
        f"<strong>{tokens / seconds:.0f}</strong> tokens a second",
    ]
    if runs[0].lm.is_calm:
        parts.append(f"{draws:.0f} vectors drawn a step")
        parts.append(f"token by token it would have taken <strong>{tokens}</strong> steps")
    return note(("Writing … " if running else "") + " · ".join(parts))


def note(content: str) -> str:
    """A quiet line; its content is HTML."""
    return f'<p class="calm-note" role="status">{content}</p>'


def error(message: object) -> str:
    """One sentence where the visitor is looking."""
    return f'<p class="calm-note calm-error" role="alert">{html.escape(str(message))}</p>'


HEADER = """<header class="calm-header">
<h1>CALM Playground</h1>
<p>A Continuous Autoregressive Language Model writes one <em>vector</em> at a time instead of one token: each vector
stands for a chunk of K tokens, so a text takes K times fewer steps. The models that come with this page speak
Storyland, a small language of simple stories, and nothing else.</p>
</header>"""


def step_of(model: Facts) -> str:
    """What a model writes in one step."""
    if not model.latent_size:
        return "token by token"
    return f"{model.chunk_size} token{'s' * (model.chunk_size > 1)} a vector"


def model_facts(model: Facts | None, lm: LanguageModel | None, resident: Sequence[str]) -> str:
    """What is known of the chosen model, where it runs once it is loaded, and which models are ready."""
    rows = {}
    if model:
        rows["parameters"] = f"{model.parameters / 1e6:.1f} M"
        if model.latent_size:
            rows["vector"] = f"{model.latent_size} numbers"
        rows["step"] = step_of(model)
    rows["device"] = str(lm.device) if lm else "loading …"
    rows["dtype"] = str(lm.dtype).removeprefix("torch.") if lm else "loading …"
    rows["resident"] = ", ".join(resident) or "none yet"
    facts = "".join(f"<div><dt>{name}</dt><dd>{html.escape(fact)}</dd></div>" for name, fact in rows.items())
    name = html.escape(model.name if model else "")
    return f'<div role="status" data-model="{name}"><dl class="calm-facts">{facts}</dl></div>'


def reconstruction(model: Resident, found: Reconstruction) -> dict[str, Any]:
    """Each chunk beside what was restored, token by token, with its posterior."""
    lm = model.lm
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
                "ids": chunk.token_ids,
                "mean": _round(chunk.mean),
                "std": _round(chunk.std),
                "exact": chunk.exact,
            }
        )
    return {"model": model.name, "chunks": chunks}


def walk(
    model: Resident, at: np.ndarray, vectors: np.ndarray, decoded: Sequence[Sequence[int]], count: int
) -> dict[str, Any]:
    """Places [P] of a walk, its vectors [P, L], what each decodes to, and the ``count`` nearest training chunks."""
    map_ = model.mapped()
    nearest, distances = map_.nearest(vectors, count)
    lm, texts = model.lm, map_.texts
    return {
        "at": _round(at, 2),
        "places": [
            {
                "ids": list(ids),
                "tokens": [lm.decode([i]) for i in ids],
                "text": lm.decode(list(ids)),
                "near": [[texts[i], round(float(d), 2)] for i, d in zip(*row)],
            }
            for ids, row in zip(decoded, zip(nearest, distances))
        ],
    }


def cloud(model: Resident, vectors: np.ndarray, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Vectors [N, L] that were drawn at a step, on the map, with the chunks that they decode to."""
    return {"points": _places(model.mapped(), list(vectors)), "texts": [model.lm.decode(list(chunk)) for chunk in ids]}


def fitted(
    places: np.ndarray, base: VectorMap, chunks: int, own: Sequence[dict[str, Any]], dimensions: int
) -> dict[str, Any]:
    """A map fitted to the first ``chunks`` training chunks and the vectors of runs behind them, taken apart again."""
    rows = np.round(places.astype(float), 3).tolist()
    runs, start = {}, chunks
    for run in own:
        runs[run["run"]] = rows[start : start + len(run["vectors"])]
        start += len(run["vectors"])
    return {"dimensions": dimensions, "texts": base.texts[:chunks], "places": rows[:chunks], "runs": runs}


def reconstruction_summary(found: Reconstruction, noise: float) -> str:
    exact = sum(chunk.exact for chunk in found.chunks)
    disturbed = f"with noise of {noise:.2f} added to each mean" if noise else "from the clean mean"
    return note(
        f"<strong>{found.token_accuracy:.2%}</strong> of {found.tokens} tokens and <strong>{found.chunk_accuracy:.2%}"
        f"</strong> of {len(found.chunks)} chunks ({exact}) restored {disturbed}"
    )


def scores(measured: Sequence[Measured], references: dict[str, tuple[str, BrierLM]]) -> str:
    """A table: BrierLM with its interval as a bar, the four Brier-n, and the figure of the model's card."""

    def cell(found: BrierLM) -> str:
        return f"{found.score:.1f} <small>({found.low:.1f} to {found.high:.1f})</small>"

    rows = []
    for entry in measured:
        if entry.found is None:
            rows.append(f"<tr><th scope=row>{html.escape(entry.name)}</th><td colspan=7>…</td></tr>")
            continue
        found = entry.found
        bar = (
            f'<div class="calm-span" aria-hidden="true"><i style="width:{found.score:.1f}%"></i>'
            f'<b style="left:{found.low:.1f}%;width:{max(found.high - found.low, 0.4):.1f}%"></b></div>'
        )
        of_card = references.get(entry.name)
        known = f"{cell(of_card[1])}<br><small>{html.escape(of_card[0])}</small>" if of_card else "–"
        briers = "".join(f"<td>{b:.1f}</td>" for b in found.brier)
        rows.append(
            f"<tr><th scope=row>{html.escape(entry.name)}</th><td>{cell(found)}{bar}</td>{briers}<td>{known}</td></tr>"
        )
    names = ["model", "BrierLM (95 % interval)", *(f"Brier-{n}" for n in (1, 2, 3, 4)), "on its card"]
    head = "".join(f"<th scope=col>{name}</th>" for name in names)
    return f'<div class="calm-scores"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
