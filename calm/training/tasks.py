"""The training tasks by name. A task joins model, objective, data and validation for the training loop."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from ..errors import CalmError
from ..evaluation.brier import brier_lm
from ..hub.autoencoders import check_autoencoder
from ..hub.language_model import LanguageModel
from ..hub.loading import check_tokenizer, load_autoencoder, load_tokenizer
from ..hub.saving import write_model
from ..modeling.autoencoder import Autoencoder, AutoencoderLayer
from ..modeling.calm import CalmModel, model_class
from ..modeling.config import AutoencoderConfig, CalmConfig
from ..modeling.heads.adaln import AdaLNBlock
from ..modeling.heads.energy import HeadBlock
from . import tokenizer as tokenizers
from .initialization import (
    copy_init,
    copy_init_attention,
    init_autoencoder_from,
    init_backbone_from,
    init_from,
    separate_codes,
)
from .loop import Task, run
from .objectives import AutoencoderDistillation, AutoencoderObjective, NextTokenObjective, NextVectorObjective
from .settings import AutoencoderSettings, CalmSettings, LanguageModelSettings, TokenizerSettings
from .streams import Blocks, Stream
from .token_files import TokenFile
from .validation import first_documents, parse

VALIDATION_CHUNKS = 8192
"""Chunks of each validation file that an autoencoder is measured on."""
VALIDATION_SAMPLES = 4
"""Samples at each position for the BrierLM of a validation."""


def _token_fields(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _tokenizer_for(name: str, *models: str) -> Any:
    """The tokenizer of a run. Raises CalmError if one of the models that the run uses was trained with another one."""
    tokenizer = load_tokenizer(name)
    for model in sorted({*models} - {"", name}):
        check_tokenizer(model, tokenizer)
    return tokenizer


class AutoencoderTask:
    """An autoencoder, trained on chunks drawn from several token files in the shares of the settings."""

    compiled_types: tuple[type[nn.Module], ...] = (AutoencoderLayer,)

    def __init__(self, settings: AutoencoderSettings):
        self.settings = settings
        for name, sources in settings.valid.items():
            first_documents(sources, 1, f"valid.{name}")
        self.tokenizer = tokenizer = _tokenizer_for(settings.tokenizer, settings.init_from, settings.distil_from)
        config = AutoencoderConfig(**{**_token_fields(tokenizer), **settings.model})
        torch.manual_seed(settings.seed)
        self.model = Autoencoder(config).train()
        if settings.init_from:
            init_autoencoder_from(self.model, settings.init_from)
        elif settings.separate_codes:
            separate_codes(self.model)
        self.objective: nn.Module = AutoencoderObjective(self.model)
        if settings.distil_from:
            teacher = load_autoencoder(settings.distil_from)
            check_autoencoder(settings.distil_from, teacher.config, config, len(tokenizer))
            self.objective = AutoencoderDistillation(self.model, teacher)
        self.tokens_per_row = config.patch_size
        data = Path(settings.data)
        self.train = {n: TokenFile.build(data / n, s, tokenizer) for n, s in settings.sources.items()}
        self.valid = {n: TokenFile.build(data / f"{n}-valid", s, tokenizer) for n, s in settings.valid.items()}
        for tokens in (*self.train.values(), *self.valid.values()):
            tokens.chunks(np.random.default_rng(0), 1, self.tokens_per_row)  # a file that is too short fails here
        weights = np.array([settings.shares.get(name, 1.0) for name in self.train])
        self.shares = weights / weights.sum()

    def batch(self, step: int) -> np.ndarray:
        """The chunks of a step [batch_size, K]."""
        rng = np.random.default_rng((self.settings.seed, step))
        counts = rng.multinomial(self.settings.batch_size, self.shares)
        parts = (t.chunks(rng, int(n), self.tokens_per_row) for t, n in zip(self.train.values(), counts))
        chunks = rng.permutation(np.concatenate(list(parts)))
        for row in chunks[: round(self.settings.partial_chunks * len(chunks))]:
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
            chunks = tokens.chunks(np.random.default_rng(0), VALIDATION_CHUNKS, self.tokens_per_row)
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
        """Writes model and tokenizer in the format that ``calm.load`` reads."""
        write_model(folder, self.model, self.tokenizer)


class LanguageModelTask:
    """A CALM or a token-by-token model, trained on rows of text and validated by BrierLM."""

    compiled_types: tuple[type[nn.Module], ...] = (LlamaDecoderLayer, HeadBlock, AdaLNBlock)

    def __init__(
        self,
        settings: LanguageModelSettings,
        model: CalmModel | LlamaForCausalLM,
        objective: nn.Module,
        tokenizer: Any,
        texts: list[str],
    ):
        self.settings, self.objective, self.texts = settings, objective, texts
        self.lm = LanguageModel(Path(settings.out).name, model, tokenizer)
        self.tokens_per_row = settings.row_tokens
        self._check_context()
        data = Path(settings.data)
        if settings.stream_workers:
            blocks = Blocks(
                settings.sources,
                tokenizer,
                settings.row_tokens,
                self.lm.chunk_size,
                settings.seed,
                settings.row_stride,
                settings.continuations,
                choices=isinstance(settings, CalmSettings) and settings.coupled_noise,
            )
            self.stream = Stream(blocks, settings.stream_workers)
        else:
            after = settings.targets_after
            self.tokens = TokenFile.build(data / settings.name, settings.sources, tokenizer, targets_after=after)
        if settings.primer_steps:
            self.primer = TokenFile.build(data / f"{settings.name}-primer", settings.primer, tokenizer)

    def _check_context(self) -> None:
        """Raises CalmError if a row does not divide into chunks or is longer than the model's context."""
        row, k = self.settings.row_tokens, self.lm.chunk_size
        positions = self.lm.model.config.max_position_embeddings
        if row % k:
            raise CalmError(f"A row of {row} tokens does not divide into chunks of {k}; choose a multiple of {k}.")
        if row > k * positions:
            raise CalmError(
                f"A row of {row} tokens is longer than the model's context of {k * positions} tokens; "
                f"set model.max_position_embeddings to at least {row // k}."
            )

    def batch(self, step: int) -> np.ndarray:
        """The rows of a step [batch_size, row_tokens], or rows and M labels [batch_size, 1 + M, row_tokens], or with
        coupled noise [batch_size, 1 + 2 M, row_tokens]."""
        settings = self.settings
        if settings.stream_workers and step >= settings.primer_steps:
            return self.stream.rows(step, settings.batch_size)
        tokens = self.primer if step < settings.primer_steps else self.tokens
        return tokens.rows(step, settings.batch_size, settings.row_tokens, self.lm.chunk_size, settings.seed)

    def validate(self) -> dict[str, float]:
        """BrierLM of the held-out texts and its four parts."""
        self.lm.model.eval()
        result = brier_lm(self.lm, self.texts, samples=VALIDATION_SAMPLES, bootstrap=0)
        self.lm.model.train()
        return {"score": result.score, **{f"brier-{n}": b for n, b in enumerate(result.brier, 1)}}

    def save(self, folder: Path) -> None:
        """Writes model and tokenizer in the format that ``calm.load`` reads."""
        write_model(folder, self.lm.model, self.lm.tokenizer)


def calm_task(settings: CalmSettings) -> LanguageModelTask:
    """A next-vector model over a frozen autoencoder."""
    texts = first_documents(settings.valid, settings.valid_texts, "valid")
    autoencoder = load_autoencoder(settings.autoencoder)
    models = (settings.autoencoder, settings.init_from, settings.init_backbone_from, settings.distil_from)
    tokenizer = _tokenizer_for(settings.tokenizer, *models)
    shared = {"patch_size": autoencoder.config.patch_size, "latent_size": autoencoder.config.latent_size}
    fields = {**_token_fields(tokenizer), **shared, **settings.model}
    config = CalmConfig(**fields, autoencoder=autoencoder.config.to_dict())
    check_autoencoder(settings.autoencoder, autoencoder.config, config, len(tokenizer))
    torch.manual_seed(settings.seed)
    model = model_class(config.head)(config).train()
    model.ae_model.load_state_dict(autoencoder.state_dict())
    if settings.coupled_noise and config.noise_size < config.patch_size:
        least = config.patch_size
        raise CalmError(f"'coupled_noise' needs at least K noise numbers; set model.noise_size to {least} or more.")
    if settings.init_from:
        init_from(model, settings.init_from, settings.init_layers, settings.new_head)
    elif settings.init_backbone_from:
        init_backbone_from(model, settings.init_backbone_from)
    elif settings.copy_init:
        copy_init(model)
    return LanguageModelTask(settings, model, NextVectorObjective(model, settings), tokenizer, texts)


def baseline_task(settings: LanguageModelSettings) -> LanguageModelTask:
    """A token-by-token Llama on the same rows."""
    texts = first_documents(settings.valid, settings.valid_texts, "valid")
    tokenizer = _tokenizer_for(settings.tokenizer, settings.init_from)
    torch.manual_seed(settings.seed)
    model = LlamaForCausalLM(LlamaConfig(**{**_token_fields(tokenizer), **settings.model})).train()
    if settings.init_from:
        init_from(model, settings.init_from, settings.init_layers)
    elif settings.copy_init:
        copy_init_attention(model.model)
    return LanguageModelTask(settings, model, NextTokenObjective(model), tokenizer, texts)


SETTINGS: dict[str, type] = {
    "tokenizer": TokenizerSettings,
    "autoencoder": AutoencoderSettings,
    "lm": CalmSettings,
    "baseline": LanguageModelSettings,
}
TASKS: dict[str, Callable[[Any], Task]] = {
    "autoencoder": AutoencoderTask,
    "lm": calm_task,
    "baseline": baseline_task,
}


def _settings(task: str, values: dict[str, Any]) -> Any:
    return parse(SETTINGS[task], {key: value for key, value in values.items() if key != "task"})


def make(task: str, values: dict[str, Any]) -> Task:
    """One of ``TASKS`` with initial weights, for the training loop. Raises CalmError for bad settings."""
    return TASKS[task](_settings(task, values))


def train(task: str, values: dict[str, Any]) -> Path:
    """Trains (or resumes) a task by its settings; returns the folder of the trained model.

    Raises CalmError for bad settings and for a damaged state of an earlier run.
    """
    if task == "tokenizer":
        return tokenizers.train(_settings(task, values))
    return run(make(task, values))
