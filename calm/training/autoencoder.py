"""Trains the chunk autoencoder on chunks drawn from several token files in stated shares."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from ..data.documents import TokenFile
from ..hub.loading import load_autoencoder, load_tokenizer
from ..modeling.autoencoder import Autoencoder
from ..modeling.config import AutoencoderConfig
from .loop import LoopSettings


@dataclass
class AutoencoderSettings(LoopSettings):
    """Sources and their shares of each batch; model sizes default to the official 75 M autoencoder's."""

    steps: int = 30_000
    batch_size: int = 131_072
    tokenizer: str = "runs/tokenizer"
    """Its folder, or a model (bundled name, folder or Hub id) whose tokenizer it is."""
    data: str = "runs/data"
    sources: dict[str, list[str]] = field(default_factory=dict)
    """Name of a token file -> its sources."""
    shares: dict[str, float] = field(default_factory=dict)
    """Name of a token file -> its share of a batch; equal shares where nothing is said."""
    valid: dict[str, list[str]] = field(default_factory=dict)
    unfinished: float = 0.0
    """Share of the chunks that end early, in padding tokens, as the last chunk of a text does."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of ``AutoencoderConfig``."""
    teacher: str = ""
    """An autoencoder of the same K and latent size (or a CALM that has it) whose latent vectors are kept: a narrower
    one takes its place in a model that knows them."""
    noise: float = 0.3
    """Standard deviation added to the mean in the noisy validation figure."""


class Objective(nn.Module):
    def __init__(self, model: Autoencoder):
        super().__init__()
        self.model = model

    def forward(self, ids, progress: float, generator: torch.Generator | None = None):
        found = self.model(ids, generator=generator)
        return {"loss": found["loss"], "kl": found["kl"]}


class TaughtObjective(nn.Module):
    """Reconstruction from the latent vectors of another autoencoder, whose posterior the encoder learns."""

    def __init__(self, model: Autoencoder, teacher: Autoencoder):
        super().__init__()
        self.model, self.teacher = model, teacher.requires_grad_(False)

    def forward(self, ids: Tensor, progress: float, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        mean, std = self.model.encode(ids)
        taught_mean, taught_std = self.teacher.encode(ids)
        divergence = kl_divergence(Normal(taught_mean, taught_std), Normal(mean, std)).sum(-1).mean()
        # Half of the chunks are decoded from the teacher's latent vectors, half from the encoder's own.
        own = torch.rand(mean.shape[:-1], generator=generator, device=mean.device) < 0.5
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        latent = torch.where(own[..., None], mean + std * noise, taught_mean + taught_std * noise)
        _, reconstruction = self.model.restore(latent, ids, generator)
        loss = self.model.config.patch_size * reconstruction + divergence
        return {"loss": loss, "reconstruction": reconstruction.detach(), "divergence": divergence.detach()}


class AutoencoderTask:
    def __init__(self, settings: AutoencoderSettings):
        self.settings = settings
        self.tokenizer = tokenizer = load_tokenizer(settings.tokenizer)
        config = AutoencoderConfig(
            **{
                "vocab_size": len(tokenizer),
                "pad_token_id": tokenizer.pad_token_id,
                "bos_token_id": tokenizer.bos_token_id,
                "eos_token_id": tokenizer.eos_token_id,
                **settings.model,
            }
        )
        torch.manual_seed(settings.seed)
        self.model = Autoencoder(config).train()
        self.objective: nn.Module = Objective(self.model)
        if settings.teacher:
            self.objective = TaughtObjective(self.model, load_autoencoder(settings.teacher, like=config))
        self.tokens_per_row = config.patch_size
        data = Path(settings.data)
        self.train = {n: TokenFile.build(data / n, s, tokenizer) for n, s in settings.sources.items()}
        self.valid = {n: TokenFile.build(data / f"{n}-valid", s, tokenizer) for n, s in settings.valid.items()}
        weights = np.array([settings.shares.get(name, 1.0) for name in self.train])
        self.shares = weights / weights.sum()

    def batch(self, step: int) -> np.ndarray:
        rng = np.random.default_rng((self.settings.seed, step))
        counts = rng.multinomial(self.settings.batch_size, self.shares)
        parts = (t.chunks(rng, int(n), self.tokens_per_row) for t, n in zip(self.train.values(), counts))
        chunks = rng.permutation(np.concatenate(list(parts)))
        for row in chunks[: round(self.settings.unfinished * len(chunks))]:
            row[rng.integers(1, len(row)) :] = self.tokenizer.pad_token_id
        return chunks

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Token accuracy on each validation file, from the clean mean and from the mean plus noise."""
        self.model.eval()
        device = next(self.model.parameters()).device
        figures = {}
        generator = torch.Generator(device).manual_seed(0)
        for name, tokens in self.valid.items():
            chunks = tokens.chunks(np.random.default_rng(0), 8192, self.tokens_per_row)
            ids = torch.from_numpy(chunks).to(device)
            mean, std = self.model.encode(ids)
            noisy = mean + self.settings.noise * torch.randn(mean.shape, generator=generator, device=device)
            figures[f"{name} clean"] = float((self.model.decode(mean) == ids).float().mean())
            figures[f"{name} noise {self.settings.noise}"] = float((self.model.decode(noisy) == ids).float().mean())
            figures[f"{name} std"] = float(std.mean())
        self.model.train()
        accuracies = [value for key, value in figures.items() if "std" not in key]
        return {"score": sum(accuracies) / len(accuracies), **figures}

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
