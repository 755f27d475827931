"""Fixtures: tiny models with fixed weights, and the bundled model."""

import time
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

import calm
from calm import storyland, tracing
from calm.modeling.calm import model_class
from calm.modeling.config import CalmConfig
from calm.training.tokenizer import TokenizerSettings, train

torch.set_num_threads(2)


def fixed_weights(model: torch.nn.Module) -> None:
    """Fills a model with numbers that depend on the names and indices of its weights, not on a random generator."""
    with torch.no_grad():
        for number, (_, parameter) in enumerate(sorted(model.named_parameters())):
            wave = torch.sin(torch.arange(parameter.numel(), dtype=torch.float64) * 0.7368 + number)
            scale = 0.3 / parameter.shape[-1] ** 0.5 if parameter.ndim > 1 else 0.05
            shift = 1.0 if parameter.ndim == 1 and "norm" in _ and "weight" in _ else 0.0
            parameter.copy_((shift + scale * 3 * wave).view_as(parameter))


def tiny_config(k: int = 4, vocabulary: int = 301, autoencoder_width: int = 24, **changes) -> CalmConfig:
    shared = {"vocab_size": vocabulary, "patch_size": k, "latent_size": 16, "bos_token_id": 0, "eos_token_id": 1}
    widths = {"hidden_size": autoencoder_width, "intermediate_size": 2 * autoencoder_width}
    autoencoder = {**shared, **widths, "pad_token_id": vocabulary - 1}
    fields = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_mlp_layers": 2,
        "noise_size": 8,
        "num_samples": 4,
        "max_position_embeddings": 64,
        "pad_token_id": vocabulary - 1,
    }
    return CalmConfig(**shared, **{**fields, **changes}, autoencoder=autoencoder)


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory) -> Path:
    """A byte-level tokenizer of 600 ids, trained on a few stories."""
    folder = tmp_path_factory.mktemp("tokenizer")
    text = folder / "stories.txt"
    text.write_text("\n".join(storyland.corpus(60, 0)))
    return train(TokenizerSettings(out=str(folder / "tokenizer"), sources=[str(text)], vocab_size=600))


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tokenizer_folder)


@pytest.fixture
def tiny(tokenizer):
    """Builds a tiny CALM of any K and head over the test tokenizer."""

    def build(k: int = 4, **changes) -> calm.LanguageModel:
        config = tiny_config(k, len(tokenizer), **changes)
        model = model_class(config.head)(config).eval()
        fixed_weights(model)
        return calm.LanguageModel(f"tiny-k{k}", model, tokenizer)

    return build


@pytest.fixture
def tiny_ar(tokenizer) -> calm.LanguageModel:
    """A tiny token-by-token model over the test tokenizer."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    return calm.LanguageModel("tiny-ar", LlamaForCausalLM(config).eval(), tokenizer)


@pytest.fixture(scope="session")
def story() -> calm.LanguageModel:
    """The bundled model, on the CPU."""
    return calm.load("story-k4", device="cpu")


@pytest.fixture
def spans(monkeypatch):
    """Turns tracing on. The function returns the spans that have ended, when there are so many."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(memory))
    monkeypatch.setattr(tracing, "_provider", provider)

    def ended(count: int) -> list:
        for _ in range(600):  # the thread of a lost replica ends its span later
            if len(memory.get_finished_spans()) >= count:
                break
            time.sleep(0.1)
        assert len(memory.get_finished_spans()) == count
        return list(memory.get_finished_spans())

    return ended
