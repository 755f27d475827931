"""BrierLM, the likelihood-free score of a language model (paper, section 4.2), for both kinds of model."""

from collections.abc import Callable, Generator, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, LlamaModel

from ..errors import CalmError, check_seed
from ..hub.language_model import LanguageModel

ORDERS = 4  # n-grams of 1 to 4 tokens

ByText = tuple[tuple[float, ...], ...]
Expected = Callable[[str, Tensor], Tensor]
"""Of a text, and tokens [S, P, 4] drawn at its places: how likely the text says the first n of them [S, P, 4]."""


@dataclass(frozen=True)
class BrierLM:
    score: float
    """BrierLM in [0, 100]."""
    brier: tuple[float, ...]
    """Brier-1 to Brier-4, each times 100."""
    low: float
    high: float
    """95 % bootstrap interval of the score, over texts."""
    positions: int
    """Number of places in the texts at which the model was asked."""
    by_text: ByText = field(default=(), repr=False)
    """Of each text the sums of Brier-1 to Brier-4 over its places, and how many these are."""

    def figures(self) -> dict[str, Any]:
        """What is kept in a file: all but what is known of single texts."""
        return {name: value for name, value in asdict(self).items() if name != "by_text"}


@dataclass(frozen=True)
class BrierDifference:
    difference: float
    """BrierLM of the one model minus that of the other."""
    low: float
    high: float
    """95 % bootstrap interval of the difference, over texts."""


def brier_n(samples: Tensor, target: Tensor) -> Tensor:
    """Unbiased Brier-n of each place, n = 1..4: E[1{a=y} + 1{b=y} - 1{a=b}] over pairs of independent samples (eq. 14).

    samples [S, P, 4] token ids drawn by the model (S >= 2), target [P, 4] token ids of the text -> [P, 4].
    """
    accuracy, collisions = accuracy_and_collisions(samples, target)
    return 2 * accuracy - collisions


def accuracy_and_collisions(samples: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """The two parts of Brier-n (paper, section 7.5), of the shapes of ``brier_n``: E[1{a=y}], and E[1{a=b}] over pairs
    of independent samples [P, 4]."""
    draws = len(samples)
    hit = (samples == target).cumprod(-1).float().mean(0)
    equal = (samples[:, None] == samples[None]).cumprod(-1).float().sum((0, 1)) - draws
    return hit, equal / (draws * (draws - 1))


def geometric_mean(brier: np.ndarray) -> np.ndarray:
    """Brier-n, or a part of it, [..., 4] in [-1, 1] -> BrierLM [...] in [0, 100] (eq. 15); a negative one is 0."""
    return 100 * np.prod(np.maximum(brier, 0), axis=-1) ** (1 / ORDERS)


def _pooled(texts: np.ndarray) -> np.ndarray:
    """Brier-n [..., 4] over all places of texts, of each of which [..., texts, 5] ``BrierLM.by_text`` tells."""
    sums = texts.sum(-2)
    return sums[..., :ORDERS] / sums[..., ORDERS:]


def _resampled(texts: np.ndarray, seed: int, bootstrap: int) -> np.ndarray:
    """BrierLM [..., bootstrap] of as many texts drawn from these [..., texts, 5], the same ones for every model."""
    count = texts.shape[-2]
    picks = np.random.default_rng(seed).integers(0, count, (bootstrap, count))
    return geometric_mean(_pooled(texts[..., picks, :]))


def _interval(resampled: np.ndarray) -> tuple[float, float]:
    if not len(resampled):
        return np.nan, np.nan
    low, high = np.percentile(resampled, (2.5, 97.5))
    return float(low), float(high)


def brier_difference(one: BrierLM, other: BrierLM, seed: int = 0, bootstrap: int = 1000) -> BrierDifference:
    """How far one model is ahead of another that was measured on the same texts, or behind it, if negative.

    The bootstrap draws texts, each with the figures of both, so that what makes a text hard for both cancels. Raises
    CalmError where they were not measured on as many texts.
    """
    if len(one.by_text) != len(other.by_text) or not one.by_text:
        raise CalmError("Only models that were measured on the same texts can be compared.")
    resampled = _resampled(np.array([one.by_text, other.by_text]), seed, bootstrap)
    return BrierDifference(one.score - other.score, *_interval(np.subtract(*resampled)))


def brier_lm(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int = 0,
    samples: int = 2,
    stride: int | None = None,
    bootstrap: int = 1000,
    expected: Expected | None = None,
) -> BrierLM:
    """Measures a model on texts.

    Places are the chunk boundaries of each text, every ``stride`` tokens (default: K, or 4 for a token-by-token model,
    so that it is asked where a CALM with K = 4 is); the true text before a place is the context and the next four
    tokens are the target. A chunk longer than four counts its first four; a shorter one is continued with the model's
    own samples. ``samples`` independent draws are made at each place (at least 2). For a token-by-token model the
    sampled indicators are replaced by their exact conditional probabilities, which has the same mean and less variance.
    Where the language of the texts is known, ``expected`` puts how likely a text says a draw in place of whether it
    did: the same mean once more, without the chance of which texts were told.
    Raises CalmError if no text is long enough.
    """
    *_, by_text = [(), *_measure(lm, texts, seed, samples, stride, expected)]
    if not by_text:
        raise CalmError(f"BrierLM needs at least one text of {ORDERS} tokens or more.")
    return score(by_text, seed, bootstrap)


def follow_brier_lm(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int = 0,
    samples: int = 2,
    stride: int | None = None,
    bootstrap: int = 1000,
) -> Generator[BrierLM | None, None, None]:
    """Like ``brier_lm``, and tells after each text what was measured so far; None while every text was too short."""
    for by_text in _measure(lm, texts, seed, samples, stride):
        yield score(by_text, seed, bootstrap) if by_text else None


def _measure(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int,
    samples: int,
    stride: int | None,
    expected: Expected | None = None,
) -> Generator[ByText, None, None]:
    """``BrierLM.by_text`` after each text."""
    if samples < 2:
        raise CalmError(f"BrierLM needs at least 2 samples at each place, not {samples}.")
    check_seed(seed)
    k = lm.chunk_size
    stride = stride or (k if k > 1 else ORDERS)
    if stride < 1 or stride % k:
        raise CalmError(f"The stride must be a multiple of the chunk size {k}, not {stride}.")
    generator = torch.Generator(lm.device).manual_seed(seed)
    measure = _measure_calm if lm.is_calm else _measure_tokens
    by_text: ByText = ()
    for text in texts:
        ids = lm.tokenize(text)[: (lm.context_length - 8) * k]
        if len(ids) >= ORDERS:
            drawn, hit, equal = measure(lm, ids, stride, samples, generator)
            if expected:
                hit = expected(text, drawn).mean(0).to(equal)
            brier = (2 * hit - equal).cpu().double()
            by_text = (*by_text, (*brier.sum(0).tolist(), float(len(brier))))
        yield by_text


def score(by_text: ByText, seed: int = 0, bootstrap: int = 1000) -> BrierLM:
    """BrierLM over all places of the texts, of each of which ``BrierLM.by_text`` tells."""
    texts = np.array(by_text)
    brier, interval = _pooled(texts), _interval(_resampled(texts, seed, bootstrap))
    briers, positions = tuple(100 * float(b) for b in brier), int(texts[:, ORDERS].sum())
    return BrierLM(float(geometric_mean(brier)), briers, *interval, positions, by_text)


class _Branches:
    """Branches that leave a text at many places [P], each a step further in one forward pass.

    What the text left in ``read`` serves all of them, so that a step costs P positions, not P texts; the mask lets a
    branch see the text up to its place and itself.
    """

    def __init__(self, backbone: LlamaModel, read: DynamicCache, places: Tensor):
        self.backbone, self.places, self.cache = backbone, places, read
        self.length, self.steps = read.get_seq_length(), 0

    def step(self, inputs: Tensor) -> Tensor:
        """The next input of each branch [P, D] -> hidden states [P, D]."""
        if not self.steps:
            self.cache = deepcopy(self.cache)  # other branches leave the same text
        self.steps += 1
        before = torch.arange(self.length, device=inputs.device) <= self.places[:, None]
        itself = torch.eye(len(self.places), dtype=torch.bool, device=inputs.device).repeat(1, self.steps)
        unseen = ~torch.cat([before, itself], dim=-1)
        mask = torch.zeros(unseen.shape, dtype=inputs.dtype, device=inputs.device)
        out = self.backbone(
            inputs_embeds=inputs[None],
            attention_mask=mask.masked_fill(unseen, torch.finfo(inputs.dtype).min)[None, None],
            position_ids=(self.places + self.steps)[None],
            past_key_values=self.cache,
            use_cache=True,
        )
        return out.last_hidden_state[0]


Measured = tuple[Tensor, Tensor, Tensor]  # draws [S, P, 4], accuracy and collisions [P, 4]


@torch.no_grad()
def _measure_calm(lm: LanguageModel, ids: list[int], stride: int, samples: int, generator) -> Measured:
    """Of a CALM on the token ids of one text."""
    model, k = lm.calm, lm.chunk_size
    targets = torch.tensor(ids, device=lm.device).unfold(0, ORDERS, stride)  # [P, 4]
    count = len(targets)
    whole = (count - 1) * stride
    context = torch.tensor([[lm.tokenizer.eos_token_id] * k + ids[:whole]], device=lm.device)
    places = torch.arange(count, device=lm.device) * (stride // k)
    read = DynamicCache()
    first = model(context, past_key_values=read, use_cache=True)[0, places]
    drawn = []
    for _ in range(samples):
        hidden, branches, chunks = first, _Branches(model.transformer, read, places), []
        while True:
            noise = model.generative_head.noise((count,), hidden, generator)
            chunks.append(model.ae_model.decode(model.generative_head(hidden, noise)))
            if len(chunks) * k >= ORDERS:
                break
            hidden = branches.step(model.embed(chunks[-1]))
        drawn.append(torch.cat(chunks, dim=-1)[:, :ORDERS])
    tokens = torch.stack(drawn)
    return tokens, *accuracy_and_collisions(tokens, targets)


@torch.no_grad()
def _measure_tokens(lm: LanguageModel, ids: list[int], stride: int, samples: int, generator) -> Measured:
    """Of a token-by-token model on the token ids of one text, with exact conditional probabilities."""
    backbone, head = lm.llama.model, lm.llama.lm_head
    text = torch.tensor(ids, device=lm.device)
    targets = text.unfold(0, ORDERS, stride)
    places = torch.arange(len(targets), device=lm.device) * stride
    context = torch.cat([text.new_tensor([lm.tokenizer.eos_token_id]), text])[None]
    read = DynamicCache()
    states = backbone(context, past_key_values=read, use_cache=True).last_hidden_state[0]
    p = head(states).float().softmax(-1)  # [1 + len, V]; row i predicts token i of the text
    each = p[places[:, None] + torch.arange(ORDERS, device=lm.device)].gather(-1, targets[..., None])[..., 0]
    hit = each.cumprod(-1)
    equal = torch.zeros_like(hit)
    drawn = []
    for _ in range(samples):
        current, branches, tokens, likelihood = p[places], _Branches(backbone, read, places), [], []
        for n in range(ORDERS):
            token = torch.multinomial(current, 1, generator=generator)
            tokens.append(token[:, 0])
            likelihood.append(current.gather(-1, token)[:, 0])
            if n + 1 < ORDERS:
                hidden = branches.step(backbone.embed_tokens(tokens[-1]))
                current = head(hidden).float().softmax(-1)
        equal += torch.stack(likelihood, -1).cumprod(-1) / samples
        drawn.append(torch.stack(tokens, -1))
    return torch.stack(drawn), hit, equal
