"""Measures BrierLM of several models on a visitor's texts, at one temperature or more."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

import calm
from calm.data.text_files import split_documents

from .. import backends
from ..backends import LoadedModel
from ..controls import throttle
from ..limits import EVALUATION_SAMPLES
from ..payloads.cards import run_card
from ..payloads.origins import RunCardPayload
from ..registry import loaded
from ..requests import EvaluateArguments

if TYPE_CHECKING:
    from calm import BrierLM


ENOUGH_TEXTS = 10
"""Bootstrap intervals from fewer texts are too narrow to be trusted."""


@dataclass
class Measurement:
    """The results of one model at one temperature so far."""

    model: str
    texts: int = 0
    """Number of texts measured."""
    result: BrierLM | None = None
    temperature: float = 1.0
    complete: bool = False


def split_texts(text: str) -> list[str]:
    """The texts between blank lines. Raises CalmError where there are none."""
    texts = split_documents(text)
    if not texts:
        raise calm.CalmError("There is no text to measure.")
    return texts


def measure(
    model: LoadedModel, texts: Sequence[str], seed: int, temperatures: Sequence[float] = (1.0,)
) -> Generator[list[Measurement], None, None]:
    """The measurements of a model, one temperature after another: all of them after each forward pass.

    Other work of the compute thread runs between two passes. Raises CalmError where no text is long enough.
    """
    from calm.evaluation.continuations import Pause

    measurements = _planned(model.name, temperatures)
    for measurement in measurements:
        for item in model.brier_lm(texts, seed, EVALUATION_SAMPLES, measurement.temperature):
            if not isinstance(item, Pause):
                measurement.result, measurement.texts = item, measurement.texts + 1
            yield measurements
        if measurement.result is None:
            raise calm.CalmError("BrierLM needs at least one text of 4 tokens or more.")
        measurement.complete = True
    yield measurements


def _planned(name: str, temperatures: Sequence[float]) -> list[Measurement]:
    return [Measurement(name, temperature=temperature) for temperature in temperatures]


def progress(arguments: EvaluateArguments) -> Iterator[tuple[str, list[Measurement]]]:
    """The status and the measurements again and again, until all are complete. Each model stays in memory only while it
    is measured. Raises CalmError."""
    texts = split_texts(arguments.text)
    if not arguments.models:
        raise calm.CalmError("Choose at least one model.")
    of_model = {name: _planned(name, arguments.temperatures) for name in arguments.models}
    for name in of_model:
        items = measure(loaded(name), texts, arguments.seed, arguments.temperatures)
        for of_model[name] in throttle(backends.current().iterate(items)):
            measurements = list(chain.from_iterable(of_model.values()))
            done = sum(measurement.texts for measurement in measurements)
            yield f"Measuring … {done} of {len(measurements) * len(texts)} texts", measurements
    positions = sorted({f"{m.result.positions:,}" for m in measurements if m.result})
    status = (
        f"{len(texts)} text{'s' * (len(texts) > 1)}, {EVALUATION_SAMPLES} samples at each of "
        f"{' and '.join(positions)} positions"
    )
    yield ". ".join([status, *warnings(measurements)]), measurements


def warnings(measurements: Sequence[Measurement]) -> list[str]:
    """Sentences on how far the scores can be trusted: for few texts, and for a negative Brier-n."""
    results = [measurement.result for measurement in measurements if measurement.result]
    count = min((sum(1 for *_, positions in result.per_text if positions) for result in results), default=0)
    found = []
    if count == 1:
        found.append("One text gives no interval: separate several texts with blank lines")
    elif 1 < count < ENOUGH_TEXTS:
        found.append(f"Intervals from fewer than {ENOUGH_TEXTS} texts are rough")
    if any(brier < 0 for result in results for brier in result.brier):
        found.append(
            "A negative Brier-n means that two samples agree with each other more than twice as often as a sample "
            "agrees with the text"
        )
    return found


def card(button: str, arguments: EvaluateArguments, measurements: Sequence[Measurement]) -> RunCardPayload:
    """The settings of the measurements that this button starts and, once all are complete, their figures."""
    names, seed, texts = list(dict.fromkeys(arguments.models)), arguments.seed, split_texts(arguments.text)
    facts = {
        "models": ", ".join(names),
        "temperature": ", ".join(f"{temperature:g}" for temperature in arguments.temperatures),
        "texts": len(texts),
        "characters": f"{len(arguments.text):,}",
        "samples per position": EVALUATION_SAMPLES,
        "random seed": seed,
        "first text": texts[0],
    }
    rows = [
        {
            "model": measurement.model,
            "temperature": measurement.temperature,
            "brier_lm": result.score,
            "low": result.low,
            "high": result.high,
            **{f"brier_{n}": brier for n, brier in enumerate(result.brier, 1)},
            "positions": result.positions,
        }
        for measurement in measurements
        if (result := measurement.result)
    ]
    inputs = {"evaluate-text": arguments.text, "evaluate-models": names, "evaluate-seed": seed}
    done = all(measurement.complete for measurement in measurements)
    return run_card("evaluate", button, facts, inputs, rows if done else [])
