"""Turns results of ``calm`` into what the page's components draw: plain dictionaries and short HTML."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import calm

from .registry import Facts, Resident
from .run import Run, places, rounded

if TYPE_CHECKING:
    from calm import BrierDifference, BrierLM, LanguageModel, Reconstruction
    from calm.vector_map import VectorMap

    from .tabs.evaluate import Measured


def summary(runs: Sequence[Run], running: bool = False) -> str:
    """One line of figures: steps, tokens, tokens a second, and what a token-by-token model would have needed."""
    waiting = [run.waiting.position for run in runs if run.waiting]
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
    if runs[0].lm.chunk_size > 1:
        parts.append(f"token by token it would have taken <strong>{tokens}</strong> steps")
    parts += interim([runs[0].lm])
    return note(("Writing … " if running else "") + " · ".join(parts))


def interim(models: Sequence[LanguageModel]) -> list[str]:
    """What is told beside a speed as long as a model writes without its kernels."""
    from calm.engine import engine_for

    return ["slower than it will be: kernels are being compiled"] * any(engine_for(lm).is_fallback for lm in models)


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
                else [[lm.detokenize([a]), lm.detokenize([b]), a == b] for a, b in pairs],
                "ids": chunk.token_ids,
                "mean": rounded(chunk.mean),
                "std": rounded(chunk.std),
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
        "at": rounded(at, 2),
        "places": [
            {
                "ids": list(ids),
                "tokens": [lm.detokenize([i]) for i in ids],
                "text": lm.detokenize(list(ids)),
                "near": [[texts[i], round(float(d), 2)] for i, d in zip(*row)],
            }
            for ids, row in zip(decoded, zip(nearest, distances))
        ],
    }


def cloud(model: Resident, vectors: np.ndarray, ids: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Vectors [N, L] that were drawn at a step, on the map, with the chunks that they decode to."""
    return {
        "points": places(model.mapped(), list(vectors)),
        "texts": [model.lm.detokenize(list(chunk)) for chunk in ids],
    }


def fitted(
    coordinates: np.ndarray, base: VectorMap, chunks: int, own: Sequence[dict[str, Any]], dimensions: int
) -> dict[str, Any]:
    """A map fitted to the first ``chunks`` training chunks and the vectors of runs behind them, taken apart again."""
    rows = np.round(coordinates.astype(float), 3).tolist()
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


BRIERS = [f"Brier-{n}" for n in (1, 2, 3, 4)]
COLUMNS = ["model", "BrierLM (95 % interval)", "behind the best", *BRIERS, "on its card"]


def scores(measured: Sequence[Measured], references: dict[str, tuple[str, BrierLM]]) -> str:
    """A table: BrierLM with its interval as a bar, how far behind the best it is, the four Brier-n, and the figure of
    the model's card."""
    best = max((entry.found for entry in measured if entry.found), key=lambda found: found.score, default=None)
    rows = []
    for entry in measured:
        found = entry.found
        if found is None or best is None:
            cells = f"<td colspan={len(COLUMNS) - 1}>…</td>"
        else:
            spread = f'<b style="left:{found.low:.1f}%;width:{max(found.high - found.low, 0.4):.1f}%"></b>'
            bar = f'<i style="width:{found.score:.1f}%"></i>{spread * _is_spread(found)}'
            briers = "".join(f"<td>{b:.1f}</td>" for b in found.brier)
            source, card = references.get(entry.name, ("", None))
            known = f"{_figure(card.score, card)}<br><small>{html.escape(source)}</small>" if card else "–"
            cells = (
                f'<td>{_figure(found.score, found)}<div class="calm-span" aria-hidden="true">{bar}</div></td>'
                f"<td>{_behind(found, best)}</td>{briers}<td>{known}</td>"
            )
        rows.append(f"<tr><th scope=row>{html.escape(entry.name)}</th>{cells}</tr>")
    head = "".join(f"<th scope=col>{name}</th>" for name in COLUMNS)
    return f'<div class="calm-scores"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'


def _behind(found: BrierLM, best: BrierLM) -> str:
    """By how much, once both models have read the same texts."""
    if found is best or len(found.per_text) != len(best.per_text):
        return "–"
    behind = calm.brier_difference(best, found)
    return _figure(behind.difference, behind)


def _figure(figure: float, interval: BrierLM | BrierDifference) -> str:
    told = f"{figure:z.1f}"  # z: no minus before what rounds to zero
    if _is_spread(interval):
        told += f" <small>({interval.low:z.1f} to {interval.high:z.1f})</small>"
    return told.replace("-", "−")


def _is_spread(interval: BrierLM | BrierDifference) -> bool:
    """Whether there is an interval: the bootstrap has nothing to draw from a single text."""
    return interval.low < interval.high
