"""BrierLM, a score of language models that needs samples only and no likelihood (paper, section 4).

Shapes: S samples, P positions of a text.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import CalmError, check_seed
from ..generation import GenerationOptions
from ..hub.language_model import LanguageModel
from .continuations import CONTINUATION, ContinuationRequest, Continuations, Pause, draw_continuations

MAX_ORDER = CONTINUATION
"""BrierLM compares n-grams of 1 to 4 tokens."""

Array = TypeVar("Array", Tensor, np.ndarray)


PerText = tuple[tuple[float, ...], ...]
"""One tuple a text, in order: the sums of Brier-1 to Brier-4 over its positions, then the number of positions. A text
that is too short to have a position has zeros."""

RESAMPLED_TEXTS = 2**16
"""Texts that the bootstrap draws at once, 48 bytes each for a model."""

ExpectedMatch = Callable[[str, Tensor], Tensor]
"""(text, samples [S, P, 4]) -> the probability that the text continues with the first n tokens of each [S, P, 4]."""


@dataclass(frozen=True)
class BrierLM:
    """The score of one model on a set of texts."""

    score: float
    """BrierLM in [0, 100]."""
    brier: tuple[float, ...]
    """Brier-1 to Brier-4, each times 100."""
    low: float
    high: float
    """95 % bootstrap interval of the score. The bootstrap resamples texts."""
    positions: int
    """Number of positions in the texts at which the model was sampled."""
    per_text: PerText = field(default=(), repr=False)

    def figures(self) -> dict[str, Any]:
        """The fields that evaluation.json keeps: all but ``per_text``."""
        return {name: value for name, value in asdict(self).items() if name != "per_text"}


@dataclass(frozen=True)
class BrierDifference:
    """The difference of two models that were measured on the same texts."""

    difference: float
    """BrierLM of the first model minus BrierLM of the second."""
    low: float
    high: float
    """95 % bootstrap interval of the difference. The bootstrap resamples texts."""


def brier(accuracy: Array, collisions: Array) -> Array:
    """Brier-n = E[1{a=y} + 1{b=y} - 1{a=b}] from its two parts, elementwise (eq. 14).

    ``accuracy`` is E[1{a=y}], the probability that a sample equals the text; ``collisions`` is E[1{a=b}], the
    probability that two independent samples are equal.
    """
    return 2 * accuracy - collisions


def accuracy_and_collisions(samples: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Unbiased estimates of the two parts of Brier-n (section 7.5).

    samples [S, P, 4] token ids that the model drew (S >= 2), targets [P, 4] token ids of the text -> E[1{a=y}] and
    E[1{a=b}] over pairs of different samples, each [P, 4]: column n - 1 compares the first n tokens.
    """
    count = len(samples)
    accuracy = (samples == targets).cumprod(-1).float().mean(0)
    equal_pairs = (samples[:, None] == samples[None]).cumprod(-1).float().sum((0, 1)) - count
    return accuracy, equal_pairs / (count * (count - 1))


def brier_n(samples: Tensor, targets: Tensor) -> Tensor:
    """Unbiased Brier-1 to Brier-4 of each position: samples [S, P, 4] and targets [P, 4] -> [P, 4]."""
    return brier(*accuracy_and_collisions(samples, targets))


def geometric_mean(values: np.ndarray) -> np.ndarray:
    """Brier-1 to Brier-4 (or one of their parts) [..., 4] in [-1, 1] -> BrierLM [...] in [0, 100] (eq. 15).

    A negative value counts as 0.
    """
    return 100 * np.prod(np.maximum(values, 0), axis=-1) ** (1 / MAX_ORDER)


def brier_lm(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int = 0,
    samples: int = 2,
    stride: int | None = None,
    bootstrap: int = 1000,
    expected_match: ExpectedMatch | None = None,
    temperature: float = 1.0,
) -> BrierLM:
    """Measures a model on texts.

    Positions are the chunk boundaries of each text, every ``stride`` tokens (default: K; 4 for K = 1 and for a
    token-by-token model, the positions of a CALM with K = 4). In the format of official models the first position
    follows the start token and ``stride`` - 1 tokens. The true text before a position is the context, and the next four
    tokens are the target. A chunk longer than four tokens counts its first four. A shorter chunk is continued with the
    model's own samples. Each position gets ``samples`` independent samples (at least 2). A text longer than the context
    of the model is measured in parts, and each part starts like a text.

    For a token-by-token model the sampled indicators are replaced by their exact conditional probabilities: same mean,
    less variance. Where the distribution of the texts is known, ``expected_match`` replaces the 0/1 match of a sample
    with the text by its exact probability: again the same mean and less variance.

    At another ``temperature`` than 1, from 0.001 to 2, the samples are those of ``calm.generate``: a CALM chooses each
    chunk with the sampler ``auto``, and a token-by-token model draws from the tempered softmax.

    Raises CalmError if no text has four tokens, for a stride that is no multiple of K, and for a bad seed or
    temperature.
    """
    *_, per_text = [(), *filter(_is_result, _measure(lm, texts, seed, samples, stride, temperature, expected_match))]
    if not _has_position(per_text):
        raise CalmError(f"BrierLM needs at least one text of {MAX_ORDER} tokens or more.")
    return summarize(per_text, seed, bootstrap)


def stream_brier_lm(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int = 0,
    samples: int = 2,
    stride: int | None = None,
    bootstrap: int = 1000,
    pauses: bool = False,
    temperature: float = 1.0,
) -> Generator[BrierLM | Pause | None, None, None]:
    """Like ``brier_lm``, and yields the score so far after each text; None while every text was too short.

    With ``pauses``, it also yields a ``Pause`` between two forward passes.
    """
    for item in _measure(lm, texts, seed, samples, stride, temperature):
        if isinstance(item, Pause):
            if pauses:
                yield item
        else:
            yield summarize(item, seed, bootstrap) if _has_position(item) else None


def brier_difference(first: BrierLM, second: BrierLM, seed: int = 0, bootstrap: int = 1000) -> BrierDifference:
    """The BrierLM of ``first`` minus that of ``second``, with a paired bootstrap interval.

    The bootstrap draws the same texts for both models, so that the difficulty of a text cancels. A text at which only
    one of them has a position is left out. Raises CalmError unless both were given the same number of texts, and if no
    text has positions of both.
    """
    same = len(first.per_text) == len(second.per_text)
    common = [pair for pair in zip(first.per_text, second.per_text) if pair[0][MAX_ORDER] and pair[1][MAX_ORDER]]
    if not same or not common:
        raise CalmError("Only models that were measured on the same texts can be compared.")
    texts = np.array(common).swapaxes(0, 1)
    difference = np.subtract(*geometric_mean(_mean(texts)))
    return BrierDifference(float(difference), *_interval(np.subtract(*_resample(texts, seed, bootstrap))))


def summarize(per_text: PerText, seed: int = 0, bootstrap: int = 1000) -> BrierLM:
    """BrierLM over all positions of the texts, with its bootstrap interval."""
    texts = np.array([text for text in per_text if text[MAX_ORDER]])
    mean, interval = _mean(texts), _interval(_resample(texts, seed, bootstrap))
    brier_n_values, positions = tuple(100 * float(value) for value in mean), int(texts[:, MAX_ORDER].sum())
    return BrierLM(float(geometric_mean(mean)), brier_n_values, *interval, positions, per_text)


def _mean(texts: np.ndarray) -> np.ndarray:
    """``PerText`` as an array [..., texts, 5] -> mean Brier-n over all positions [..., 4]."""
    sums = texts.sum(-2)
    return sums[..., :MAX_ORDER] / sums[..., MAX_ORDER:]


def _resample(texts: np.ndarray, seed: int, bootstrap: int) -> np.ndarray:
    """BrierLM [..., bootstrap] of texts drawn with replacement from [..., texts, 5], the same draws for every model."""
    count, generator = texts.shape[-2], np.random.default_rng(seed)
    at_once = max(1, RESAMPLED_TEXTS // count)
    means = [np.empty((*texts.shape[:-2], 0, MAX_ORDER))]
    for start in range(0, bootstrap, at_once):
        picks = generator.integers(0, count, (min(at_once, bootstrap - start), count))
        means.append(_mean(texts[..., picks, :]))
    return geometric_mean(np.concatenate(means, axis=-2))


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    if not len(resampled):
        return np.nan, np.nan
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def _measure(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int,
    samples: int,
    stride: int | None,
    temperature: float,
    expected_match: ExpectedMatch | None = None,
) -> Generator[PerText | Pause, None, None]:
    """Yields, after each text, the ``PerText`` of all texts so far."""
    if samples < 2:
        raise CalmError(f"BrierLM needs at least 2 samples at each position, not {samples}.")
    check_seed(seed)
    temperature = GenerationOptions(temperature).temperature
    k = lm.chunk_size
    stride = stride or (k if k > 1 else MAX_ORDER)
    if stride < 1 or stride % k:
        raise CalmError(f"The stride must be a multiple of the chunk size {k}, not {stride}.")
    generator = torch.Generator(lm.device).manual_seed(seed)
    start, window = lm.text_format.start(k) if lm.is_calm else [lm.text_format.start_id], (lm.context_length - 8) * k
    # Where one token starts a text, this gives models of all K the same positions at the same stride.
    context = stride if lm.text_format.single_start else k
    per_text: PerText = ()
    for text in texts:
        ids, sums = lm.tokenize(text), np.zeros(MAX_ORDER + 1)
        parts = [ids[i : i + window] for i in range(0, len(ids), window)]
        if expected_match and len(parts) > 1:
            raise CalmError(
                f"A text of {len(ids):,} tokens is longer than the context of {lm.name}, {window:,} tokens."
            )
        for part in parts:
            if len(part) + len(start) >= context + MAX_ORDER:
                match = partial(expected_match, text) if expected_match else None
                request = ContinuationRequest(start + part, context, stride, samples, temperature)
                sums += yield from measure_row(lm, request, generator, match)
        per_text = (*per_text, tuple(sums.tolist()))
        yield per_text


def measure_row(
    lm: LanguageModel,
    request: ContinuationRequest,
    generator: torch.Generator,
    expected_match: Callable[[Tensor], Tensor] | None = None,
) -> Generator[Pause, None, np.ndarray]:
    """Measures a model at the positions of one row of token ids that the request names.

    Returns the sums of Brier-1 to Brier-4 over the positions, then the number of positions [5].
    """
    values = yield from measure_positions(lm, request, generator, expected_match)
    return np.array([*values.sum(0).tolist(), len(values)])


def measure_positions(
    lm: LanguageModel,
    request: ContinuationRequest,
    generator: torch.Generator,
    expected_match: Callable[[Tensor], Tensor] | None = None,
) -> Generator[Pause, None, np.ndarray]:
    """Brier-1 to Brier-4 at each position of one row of token ids that the request names [P, 4]."""
    drawn = yield from draw_continuations(lm, request, generator)
    text = torch.tensor(request.ids[request.context :], device=lm.device)
    accuracy, collisions = _two_parts(drawn, text.unfold(0, MAX_ORDER, request.stride))
    if expected_match:
        accuracy = expected_match(drawn.tokens).mean(0).to(collisions)
    return brier(accuracy, collisions).cpu().double().numpy()


def _two_parts(drawn: Continuations, targets: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of Brier-n, each [P, 4], for the targets [P, 4]: exact where the probabilities are known."""
    if drawn.probabilities is None or drawn.probabilities_of_text is None:
        return accuracy_and_collisions(drawn.tokens, targets)
    accuracy = drawn.probabilities_of_text.cumprod(-1)
    collisions = torch.zeros_like(accuracy)
    for probabilities in drawn.probabilities:
        collisions += probabilities.cumprod(-1) / len(drawn.tokens)
    return accuracy, collisions


def _has_position(per_text: PerText) -> bool:
    return any(text[MAX_ORDER] for text in per_text)


def _is_result(item: PerText | Pause) -> TypeGuard[PerText]:
    return not isinstance(item, Pause)
