"""Trains the next-vector model by the energy score, and the token-by-token baseline by cross-entropy."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from ..brier import brier_lm
from ..config import CalmConfig
from ..loading import LanguageModel, read_weights
from ..model import EnergyTransformer
from .data import TokenFile, read_documents
from .loop import LoopSettings, run
from .losses import energy_score


@dataclass
class LanguageModelSettings(LoopSettings):
    """``row_tokens`` tokens make a row; ``model`` holds fields of the model's configuration."""

    tokenizer: str = "runs/tokenizer"
    data: str = "runs/data"
    name: str = "text"
    """Name of the token file in ``data``."""
    sources: list[str] = field(default_factory=list)
    valid: list[str] = field(default_factory=list)
    valid_texts: int = 40
    row_tokens: int = 8192
    model: dict[str, object] = field(default_factory=dict)


@dataclass
class CalmSettings(LanguageModelSettings):
    """The paper's energy score: N = 8 samples of the head against M = 100 of the posterior."""

    autoencoder: str = "runs/autoencoder"
    targets: int = 100
    auxiliary: float = 0.0
    """Weight of a cross-entropy on the next K tokens, read from the hidden state, while the run is young."""
    auxiliary_until: float = 0.7
    """Share of the run at which that weight has fallen to 0, linearly. Its layers are thrown away."""


class NextVectorObjective(nn.Module):
    """Energy score of the next chunk's latent at every position of a row."""

    def __init__(self, model: EnergyTransformer, settings: CalmSettings):
        super().__init__()
        self.model, self.settings = model, settings
        width, k = model.config.hidden_size, model.config.patch_size
        self.auxiliary = nn.Linear(width, k * width, bias=False) if settings.auxiliary else None

    def forward(self, ids: Tensor, progress: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        model, config, settings = self.model, self.model.config, self.settings
        chunks = ids.unflatten(-1, (-1, config.patch_size))
        hidden = model(ids[:, : -config.patch_size], use_cache=False)  # [B, T - 1, D]
        following = chunks[:, 1:]
        with torch.no_grad():
            mean, std = model.ae_model.encode(following)
            noise = torch.randn(
                (settings.targets, *mean.shape), generator=generator, device=mean.device, dtype=mean.dtype
            )
            targets = mean + std * noise  # [M, B, T - 1, L]
        head = model.generative_head
        samples = head(hidden, head.noise((config.num_samples, *hidden.shape[:2]), hidden, generator))
        score = energy_score(samples.movedim(0, -2).float(), targets.movedim(0, -2).float(), config.beta).mean()
        found = {"loss": score, "energy": score.detach()}
        weight = settings.auxiliary * max(0.0, 1 - progress / settings.auxiliary_until)
        if self.auxiliary is not None:
            states = self.auxiliary(hidden).unflatten(-1, (config.patch_size, -1))
            logits = F.linear(states, model.transformer.embed_tokens.weight)
            cross_entropy = F.cross_entropy(logits.flatten(0, -2).float(), following.flatten())
            # Multiplied even by 0, so that every process has a gradient for every parameter.
            found["loss"] = score + weight * cross_entropy
            found["cross_entropy"] = cross_entropy.detach()
        return found


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

    def __init__(self, settings: LanguageModelSettings, model: EnergyTransformer | LlamaForCausalLM, objective, tokenizer):
        self.settings, self.objective = settings, objective
        self.lm = LanguageModel(Path(settings.out).name, model, tokenizer)
        self.tokens_per_row = settings.row_tokens
        self.tokens = TokenFile.build(Path(settings.data) / settings.name, settings.sources, tokenizer)
        documents = (text for source in settings.valid for text in read_documents(source))
        self.texts = [text for _, text in zip(range(settings.valid_texts), documents)]

    def batch(self, step: int) -> np.ndarray:
        settings = self.settings
        return self.tokens.rows(step, settings.batch_size, settings.row_tokens, self.lm.chunk_size, settings.seed)

    def validate(self) -> dict[str, float]:
        self.lm.model.eval()
        found = brier_lm(self.lm, self.texts, samples=4, bootstrap=0)
        self.lm.model.train()
        return {"score": found.score, **{f"brier-{n}": b for n, b in enumerate(found.brier, 1)}}

    def save(self, folder: Path) -> None:
        self.lm.model.save_pretrained(folder)
        self.lm.tokenizer.save_pretrained(folder)


def _token_fields(tokenizer) -> dict[str, int]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def train_calm(settings: CalmSettings) -> Path:
    """Trains (or resumes) a next-vector model over a frozen autoencoder; returns the folder of the best one."""
    from ..autoencoder import Autoencoder

    tokenizer = AutoTokenizer.from_pretrained(settings.tokenizer)
    autoencoder = Autoencoder.from_pretrained(settings.autoencoder)
    shared = {"patch_size": autoencoder.config.patch_size, "latent_size": autoencoder.config.latent_size}
    fields = {**_token_fields(tokenizer), **shared, **settings.model}
    config = CalmConfig(**fields, autoencoder=autoencoder.config.to_dict())
    torch.manual_seed(settings.seed)
    model = EnergyTransformer(config).train()
    model.ae_model.load_state_dict(read_weights(Path(settings.autoencoder)), strict=False)
    return run(LanguageModelTask(settings, model, NextVectorObjective(model, settings), tokenizer))


def train_baseline(settings: LanguageModelSettings) -> Path:
    """Trains (or resumes) a token-by-token Llama on the same rows; returns the folder of the best one."""
    tokenizer = AutoTokenizer.from_pretrained(settings.tokenizer)
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(LlamaConfig(**{**_token_fields(tokenizer), **settings.model})).train()
    return run(LanguageModelTask(settings, model, NextTokenObjective(model), tokenizer))
