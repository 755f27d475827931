"""Trains the next-vector model by the energy score, and the token-by-token baseline by cross-entropy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from ..data.documents import TokenFile, read_documents
from ..evaluation.brier import brier_lm
from ..hub.language_model import LanguageModel
from ..hub.loading import load, load_autoencoder, load_tokenizer
from ..modeling.calm import EnergyTransformer
from ..modeling.config import CalmConfig
from ..modeling.losses import energy_score
from .aligned import COPY, align, align_attention
from .loop import LoopSettings
from .start import grow, start
from .streams import Stream


@dataclass
class LanguageModelSettings(LoopSettings):
    """``row_tokens`` tokens make a row; ``model`` holds fields of the model's configuration."""

    tokenizer: str = "runs/tokenizer"
    """Its folder, or a model (bundled name, folder or Hub id) whose tokenizer it is."""
    data: str = "runs/data"
    name: str = "text"
    """Name of the token file in ``data``."""
    sources: list[str] = field(default_factory=list)
    streamed: int = 0
    """Processes that tell the ``sources`` while the model learns from them (``calm.training.stream``); 0 to tokenise
    all of them beforehand."""
    primer: list[str] = field(default_factory=list)
    """Sources of the first ``primer_steps`` steps, kept beside ``name`` as ``name-primer``."""
    primer_steps: int = 0
    valid: list[str] = field(default_factory=list)
    valid_texts: int = 40
    row_tokens: int = 8192
    model: dict[str, Any] = field(default_factory=dict)
    aligned: bool = False
    """Whether to begin with weights that copy (``calm.training.aligned``) instead of random ones."""
    start: str = ""
    """A model of the same shape (bundled name, folder or Hub id), or with fewer blocks in its head, or a CALM of half
    the width, whose weights the run begins with, in their place."""
    layers: list[int] = field(default_factory=list)
    """Which layers of a deeper ``start`` are kept; all where nothing is said."""


@dataclass
class CalmSettings(LanguageModelSettings):
    """The paper's energy score: N = 8 samples of the head against M = 100 of the posterior."""

    autoencoder: str = "runs/autoencoder"
    """Its folder, or a CALM (bundled name, folder or Hub id) whose autoencoder it is."""
    grown: str = ""
    """A model of the same widths, of another K or token by token, whose backbone the run begins with; how a chunk is
    read, and the head, begin anew."""
    targets: int = 100
    """M, samples of the posterior that the head's are held against; 0 for its mean alone, so that the posterior's noise
    need not be learned."""
    auxiliary: float = 0.0
    """Weight of the likelihood of the next chunk under a small token decoder, whose layers are thrown away."""
    teacher: str = ""
    """A CALM of the same width and K whose hidden states the backbone learns up to ``head_from``."""
    head_from: float = 0.0
    """Share of the run that trains the backbone alone, by the auxiliary likelihood or a ``teacher``; there the energy
    head begins."""
    energy_from: float = 0.0
    """Share of the run up to which the head learns alone, on a backbone at rest; from there on both learn."""
    disturbed: float = 0.0
    """Share of the chunks that the model reads disturbed (half of their tokens are others of the batch), so that it
    learns to go on after a slip of its own."""
    auxiliary_until: float = 0.7
    """Share of the run at which the auxiliary weight, falling linearly from ``energy_from`` on, has come to 0."""


class TokenDecoder(nn.Module):
    """p(token i | hidden state, tokens before i in the chunk): a training aid that is thrown away.

    The product over i is the likelihood of the chunk, so the backbone learns what the energy head will need, long
    before the energy score, which sees only distances, can tell it.
    """

    def __init__(self, width: int, k: int):
        super().__init__()
        self.k = k
        self.state = nn.Linear(width, k * 2 * width)
        self.seen = nn.ModuleList(nn.Linear(i * width, 2 * width, bias=False) for i in range(1, k))
        self.out = nn.Linear(2 * width, width)
        # A straight way for what the hidden state holds: tokens that it names begin likelier (see aligned.py).
        self.copy = nn.Linear(width, k * width, bias=False)
        self.copy.weight.data = COPY * torch.eye(width).repeat(k, 1)

    def forward(self, hidden: Tensor, embedded: Tensor, embedding: Tensor) -> Tensor:
        """hidden [..., D], embedded [..., K, D] (the chunk's own tokens), embedding [V, D] -> logits [..., K, V]."""
        states = list(self.state(hidden).chunk(self.k, dim=-1))
        for i, layer in enumerate(self.seen, 1):
            states[i] = states[i] + layer(embedded[..., :i, :].flatten(-2))
        said = self.out(F.silu(torch.stack(states, dim=-2))) + self.copy(hidden).unflatten(-1, (self.k, -1))
        return F.linear(said, embedding)


def disturb(ids: Tensor, k: int, share: float, generator: torch.Generator | None) -> Tensor:
    """ids [B, T * K] with half of the tokens of a share of the chunks replaced by others of the batch."""
    chunks = ids.unflatten(-1, (-1, k))
    hit = torch.rand(chunks.shape[:-1], generator=generator, device=ids.device) < share
    half = torch.rand(chunks.shape, generator=generator, device=ids.device) < 0.5
    others = ids.flatten()[torch.randint(ids.numel(), chunks.shape, generator=generator, device=ids.device)]
    return torch.where(hit[..., None] & half, others, chunks).flatten(-2)


class NextVectorObjective(nn.Module):
    """Energy score of the next chunk's latent at every position of a row."""

    def __init__(self, model: EnergyTransformer, settings: CalmSettings):
        super().__init__()
        self.model, self.settings = model, settings
        width, k = model.config.hidden_size, model.config.patch_size
        self.decoder = TokenDecoder(width, k) if settings.auxiliary else None
        self.teacher = load(settings.teacher, "cpu").calm.requires_grad_(False) if settings.teacher else None

    def forward(self, ids: Tensor, progress: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        model, settings = self.model, self.settings
        k = model.config.patch_size
        head_alone = settings.head_from <= progress < settings.energy_from
        read = disturb(ids, k, settings.disturbed, generator) if settings.disturbed else ids
        with torch.set_grad_enabled(torch.is_grad_enabled() and not head_alone):
            hidden = model(read[:, :-k], use_cache=False)  # [B, T - 1, D]
        following = ids.unflatten(-1, (-1, k))[:, 1:]  # [B, T - 1, K]
        found: dict[str, Tensor] = {}
        loss = hidden.new_zeros(())
        faded = (progress - settings.energy_from) / max(settings.auxiliary_until - settings.energy_from, 1e-9)
        weight = min(1.0, max(0.0, 1 - faded))
        if self.teacher is not None and progress < settings.head_from:
            with torch.no_grad():
                taught = self.teacher(read[:, :-k], use_cache=False)
            found["distance"] = F.mse_loss(hidden.float(), taught.float()) / taught.float().var()
            loss = loss + found["distance"]
        if progress >= settings.head_from:
            found["energy"] = self._energy(hidden, following, generator)
            loss = loss + found["energy"]
        if self.decoder is not None and weight and not head_alone:
            found["cross_entropy"] = self._cross_entropy(hidden, following, generator)
            loss = loss + weight * settings.auxiliary * found["cross_entropy"]
        return {"loss": loss, **{name: value.detach() for name, value in found.items()}}

    def _energy(self, hidden: Tensor, following: Tensor, generator: torch.Generator | None) -> Tensor:
        model, config = self.model, self.model.config
        with torch.no_grad():
            mean, std = model.ae_model.encode(following)
            shape = (self.settings.targets, *mean.shape)
            noise = torch.randn(shape, generator=generator, device=mean.device, dtype=mean.dtype)
            targets = mean + std * noise if len(noise) else mean[None]  # [M, B, T - 1, L]
        head = model.generative_head
        samples = head(hidden, head.noise((config.num_samples, *hidden.shape[:2]), hidden, generator))
        return energy_score(samples.movedim(0, -2).float(), targets.movedim(0, -2).float(), config.beta).mean()

    def _cross_entropy(self, hidden: Tensor, following: Tensor, generator: torch.Generator | None) -> Tensor:
        assert self.decoder is not None
        embedding = self.model.transformer.embed_tokens
        # Scaled, because embeddings of the usual initial size would say nothing beside the hidden state.
        embedded = embedding(following) * hidden.shape[-1] ** 0.5
        # Half of the chunks are told without their first tokens, so that the hidden state itself has to know them all,
        # as the energy head will need, and the decoder does not come to know the language in its place.
        told = torch.rand(following.shape[:-1], generator=generator, device=following.device) < 0.5
        logits = self.decoder(hidden, embedded * told[..., None, None], embedding.weight)
        return F.cross_entropy(logits.flatten(0, -2).float(), following.flatten())


class NextTokenObjective(nn.Module):
    """Cross-entropy of the next token."""

    def __init__(self, model: LlamaForCausalLM):
        super().__init__()
        self.model = model

    def forward(self, ids: Tensor, progress: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        logits = self.model(ids[:, :-1], use_cache=False).logits
        return {"loss": F.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())}


class LanguageModelTask:
    """What both kinds share: rows of a token file, BrierLM as the validation figure."""

    def __init__(
        self, settings: LanguageModelSettings, model: EnergyTransformer | LlamaForCausalLM, objective, tokenizer
    ):
        self.settings, self.objective = settings, objective
        self.lm = LanguageModel(Path(settings.out).name, model, tokenizer)
        self.tokens_per_row = settings.row_tokens
        data = Path(settings.data)
        if settings.streamed:
            row = settings.row_tokens, self.lm.chunk_size
            self.stream = Stream(settings.sources, tokenizer, *row, settings.seed, settings.streamed)
        else:
            self.tokens = TokenFile.build(data / settings.name, settings.sources, tokenizer)
        if settings.primer_steps:
            self.primer = TokenFile.build(data / f"{settings.name}-primer", settings.primer, tokenizer)
        documents = (text for source in settings.valid for text in read_documents(source))
        self.texts = [text for _, text in zip(range(settings.valid_texts), documents)]

    def batch(self, step: int) -> np.ndarray:
        settings = self.settings
        if settings.streamed and step >= settings.primer_steps:
            return self.stream.rows(step, settings.batch_size)
        tokens = self.primer if step < settings.primer_steps else self.tokens
        return tokens.rows(step, settings.batch_size, settings.row_tokens, self.lm.chunk_size, settings.seed)

    def validate(self) -> dict[str, float]:
        self.lm.model.eval()
        found = brier_lm(self.lm, self.texts, samples=4, bootstrap=0)
        self.lm.model.train()
        return {"score": found.score, **{f"brier-{n}": b for n, b in enumerate(found.brier, 1)}}

    def save(self, folder: Path) -> None:
        self.lm.model.save_pretrained(folder)
        self.lm.tokenizer.save_pretrained(folder)


def _token_fields(tokenizer) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def calm_task(settings: CalmSettings) -> LanguageModelTask:
    """A next-vector model over a frozen autoencoder."""
    tokenizer = load_tokenizer(settings.tokenizer)
    autoencoder = load_autoencoder(settings.autoencoder)
    shared = {"patch_size": autoencoder.config.patch_size, "latent_size": autoencoder.config.latent_size}
    fields = {**_token_fields(tokenizer), **shared, **settings.model}
    config = CalmConfig(**fields, autoencoder=autoencoder.config.to_dict())
    torch.manual_seed(settings.seed)
    model = EnergyTransformer(config).train()
    model.ae_model.load_state_dict(autoencoder.state_dict())
    if settings.start:
        start(model, settings.start, settings.layers)
    elif settings.grown:
        grow(model, settings.grown)
    elif settings.aligned:
        align(model)
    return LanguageModelTask(settings, model, NextVectorObjective(model, settings), tokenizer)


def baseline_task(settings: LanguageModelSettings) -> LanguageModelTask:
    """A token-by-token Llama on the same rows."""
    tokenizer = load_tokenizer(settings.tokenizer)
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(LlamaConfig(**{**_token_fields(tokenizer), **settings.model})).train()
    if settings.start:
        start(model, settings.start, settings.layers)
    elif settings.aligned:
        align_attention(model.model)
    return LanguageModelTask(settings, model, NextTokenObjective(model), tokenizer)
