"""The usual prediction error of a model, measured while it continues held-out texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from ..errors import CalmError

if TYPE_CHECKING:
    from ..hub.language_model import LanguageModel

TEMPERATURE = 0.5
PROMPT_SHARE = 0.25
"""The share of each text that is the prompt."""
NEW_TOKENS = 64
"""Tokens generated after each prompt, at most."""


@dataclass(frozen=True)
class PredictionError:
    """Percentiles of the Euclidean distance between the predicted vector of a step and the vector to which the
    autoencoder encodes the chunk that it was decoded to."""

    low: float
    """10th percentile."""
    median: float
    high: float
    """90th percentile."""
    steps: int
    """Number of measured steps."""
    temperature: float


def prediction_error(lm: LanguageModel, sources: Sequence[str], texts: int = 40) -> PredictionError:
    """Measures the prediction error while a model continues the first ``texts`` documents of each source.

    The first quarter of a document is the prompt; up to 64 tokens follow at T = 0.5. Raises CalmError for sources
    without text and for a token-by-token model.
    """
    from ..data.documents import read_documents
    from ..generation import generate
    from ..reconstruction import encode

    distances: list[float] = []
    for source in sources:
        for number, text in enumerate(islice(read_documents(source), texts)):
            prompt = text[: int(PROMPT_SHARE * len(text))].rpartition(" ")[0]
            steps = list(generate(lm, prompt, TEMPERATURE, max_new_tokens=NEW_TOKENS, seed=number))
            if steps:
                encoded = encode(lm, [step.token_ids for step in steps]).mean
                predicted = np.stack([np.asarray(step.vector) for step in steps])
                distances.extend(np.linalg.norm(predicted - encoded, axis=1).tolist())
    if not distances:
        raise CalmError("The held-out sources hold no text.")
    low, median, high = (round(float(value), 4) for value in np.percentile(distances, [10, 50, 90]))
    return PredictionError(low, median, high, len(distances), TEMPERATURE)
