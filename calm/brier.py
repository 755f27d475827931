"""BrierLM, the likelihood-free score of a language model (paper, section 4.2), for both kinds of model."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .errors import CalmError, check_seed
from .loading import LanguageModel

ORDERS = 4  # n-grams of 1 to 4 tokens


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


def pooled(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """BrierLM [...] over all places of texts: sums of Brier-n [..., texts, 4], numbers of places [..., texts]."""
    return geometric_mean(sums.sum(-2) / counts.sum(-1)[..., None])


def brier_lm(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int = 0,
    samples: int = 2,
    stride: int | None = None,
    bootstrap: int = 1000,
) -> BrierLM:
    """Measures a model on texts.

    Places are the chunk boundaries of each text, every ``stride`` tokens (default: K, or 4 for a token-by-token model,
    so that it is asked where a CALM with K = 4 is); the true text before a place is the context and the next four
    tokens are the target. A chunk longer than four counts its first four; a shorter one is continued with the model's
    own samples. ``samples`` independent draws are made at each place (at least 2). For a token-by-token model the
    sampled indicators are replaced by their exact conditional probabilities, which has the same mean and less variance.
    Raises CalmError if no text is long enough.
    """
    *_, found = [None, *follow_brier_lm(lm, texts, seed, samples, stride, bootstrap)]
    if found is None:
        raise CalmError(f"BrierLM needs at least one text of {ORDERS} tokens or more.")
    return found


def follow_brier_lm(
    lm: LanguageModel,
    texts: Sequence[str],
    seed: int = 0,
    samples: int = 2,
    stride: int | None = None,
    bootstrap: int = 1000,
) -> Generator[BrierLM | None, None, None]:
    """Like ``brier_lm``, and tells after each text what was measured so far; None while every text was too short."""
    if samples < 2:
        raise CalmError(f"BrierLM needs at least 2 samples at each place, not {samples}.")
    check_seed(seed)
    k = lm.chunk_size
    stride = stride or (k if k > 1 else ORDERS)
    if stride < 1 or stride % k:
        raise CalmError(f"The stride must be a multiple of the chunk size {k}, not {stride}.")
    generator = torch.Generator(lm.device).manual_seed(seed)
    measure = _measure_calm if lm.is_calm else _measure_tokens
    per_text: list[np.ndarray] = []
    for text in texts:
        ids = lm.encode(text)[: (lm.context - 8) * k]
        if len(ids) >= ORDERS:
            per_text.append(measure(lm, ids, stride, samples, generator).double().cpu().numpy())
        yield _score(per_text, seed, bootstrap) if per_text else None


def _score(per_text: list[np.ndarray], seed: int, bootstrap: int) -> BrierLM:
    """per_text: Brier-n [P, 4] of the places of each text."""
    sums, counts = np.stack([b.sum(0) for b in per_text]), np.array([len(b) for b in per_text])
    mean = sums.sum(0) / counts.sum()
    picks = np.random.default_rng(seed).integers(0, len(counts), (bootstrap, len(counts)))
    resampled = pooled(sums[picks], counts[picks])
    low, high = np.percentile(resampled, (2.5, 97.5)) if bootstrap else (np.nan, np.nan)
    return BrierLM(
        float(geometric_mean(mean)), tuple(100 * float(b) for b in mean), float(low), float(high), int(counts.sum())
    )


class _Branches:
    """Hidden states after branches that leave a text at many places, all in one forward pass.

    The sequence is the text's ``length`` positions, then one position a branch and step; the mask lets a branch see
    the text before its place and itself, so that a text with P places costs P extra positions a step, not P texts.
    """

    def __init__(self, places: Tensor, length: int):
        self.places, self.length = places, length

    def mask(self, steps: int, dtype: torch.dtype) -> Tensor:
        """Additive attention mask [1, 1, Q, Q] with Q = length + steps * P."""
        p, n = len(self.places), self.length
        device = self.places.device
        seen = torch.zeros(n + steps * p, n + steps * p, dtype=torch.bool, device=device)
        seen[:n, :n] = torch.ones(n, n, dtype=torch.bool, device=device).tril()
        before = torch.arange(n, device=device) <= self.places[:, None]  # a branch begins after the place's position
        same = torch.eye(p, dtype=torch.bool, device=device)
        for i in range(steps):
            rows = slice(n + i * p, n + (i + 1) * p)
            seen[rows, :n] = before
            for j in range(i + 1):
                seen[rows, n + j * p : n + (j + 1) * p] = same
        return torch.zeros(seen.shape, dtype=dtype, device=device).masked_fill(~seen, torch.finfo(dtype).min)[
            None, None
        ]

    def positions(self, steps: int) -> Tensor:
        trunk = torch.arange(self.length, device=self.places.device)
        return torch.cat([trunk, *(self.places + 1 + i for i in range(steps))])[None]

    def hidden(self, backbone, trunk: Tensor, branches: list[Tensor]) -> Tensor:
        """trunk [1, length, D], branches of [P, D] inputs -> the last branch step's hidden states [P, D]."""
        inputs = torch.cat([trunk, *(branch[None] for branch in branches)], dim=1)
        steps = len(branches)
        out = backbone(
            inputs_embeds=inputs,
            attention_mask=self.mask(steps, inputs.dtype),
            position_ids=self.positions(steps),
            use_cache=False,
        ).last_hidden_state
        return out[0, -len(self.places) :]


@torch.no_grad()
def _measure_calm(lm: LanguageModel, ids: list[int], stride: int, samples: int, generator) -> Tensor:
    """Brier-n [P, 4] of a CALM on the token ids of one text."""
    model, k = lm.calm, lm.chunk_size
    targets = torch.tensor(ids, device=lm.device).unfold(0, ORDERS, stride)  # [P, 4]
    count = len(targets)
    whole = (count - 1) * stride
    context = torch.tensor([lm.tokenizer.eos_token_id] * k + ids[:whole], device=lm.device).view(1, -1, k)
    places = torch.arange(count, device=lm.device) * (stride // k)
    trunk = model.embed(context)
    first = model.transformer(inputs_embeds=trunk, use_cache=False).last_hidden_state[0, places]
    drawn = []
    for _ in range(samples):
        hidden, branches, chunks = first, [], []
        while True:
            noise = model.generative_head.noise((count,), hidden, generator)
            chunks.append(model.ae_model.decode(model.generative_head(hidden, noise)))
            if len(chunks) * k >= ORDERS:
                break
            branches.append(model.embed(chunks[-1]))
            hidden = _Branches(places, trunk.shape[1]).hidden(model.transformer, trunk, branches)
        drawn.append(torch.cat(chunks, dim=-1)[:, :ORDERS])
    return brier_n(torch.stack(drawn), targets)


@torch.no_grad()
def _measure_tokens(lm: LanguageModel, ids: list[int], stride: int, samples: int, generator) -> Tensor:
    """Brier-n [P, 4] of a token-by-token model on the token ids of one text, with exact conditional probabilities."""
    backbone, head = lm.llama.model, lm.llama.lm_head
    text = torch.tensor(ids, device=lm.device)
    targets = text.unfold(0, ORDERS, stride)
    places = torch.arange(len(targets), device=lm.device) * stride
    context = torch.cat([text.new_tensor([lm.tokenizer.eos_token_id]), text])[None]
    trunk = backbone.embed_tokens(context)
    states = backbone(inputs_embeds=trunk, use_cache=False).last_hidden_state[0]
    p = head(states).float().softmax(-1)  # [1 + len, V]; row i predicts token i of the text
    each = p[places[:, None] + torch.arange(ORDERS, device=lm.device)].gather(-1, targets[..., None])[..., 0]
    hit = each.cumprod(-1)
    equal = torch.zeros_like(hit)
    for _ in range(samples):
        current, branches, likelihood = p[places], [], []
        for n in range(ORDERS):
            token = torch.multinomial(current, 1, generator=generator)
            likelihood.append(current.gather(-1, token)[:, 0])
            if n + 1 < ORDERS:
                branches.append(backbone.embed_tokens(token[:, 0]))
                hidden = _Branches(places, trunk.shape[1]).hidden(backbone, trunk, branches)
                current = head(hidden).float().softmax(-1)
        equal += torch.stack(likelihood, -1).cumprod(-1) / samples
    return 2 * hit - equal
