"""Settings of runs that are small enough for tests."""

import json
from pathlib import Path

import pytest

from calm.training import tasks

LOOP = {"batch_size": 4, "learning_rate": 1e-3, "warmup_steps": 2, "log_every": 1, "validate_every": 100}


@pytest.fixture(scope="session")
def autoencoder(tokenizer_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("autoencoder")
    return tasks.train(
        "autoencoder",
        {
            **LOOP,
            "task": "autoencoder",
            "batch_size": 64,
            "steps": 60,
            "out": str(folder / "run"),
            "tokenizer": str(tokenizer_folder),
            "data": str(folder / "data"),
            "sources": {"stories": ["storyland:0:40"], "synthetic": ["synthetic:0:40"]},
            "valid": {"stories": ["storyland:10000000:10"]},
            "model": {"patch_size": 4, "latent_size": 16, "hidden_size": 32, "intermediate_size": 64},
        },
    )


def log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def lm_settings(folder: Path, tokenizer_folder: Path, autoencoder: Path, **changes) -> dict:
    return {
        **LOOP,
        "steps": 6,
        "save_every": 1,
        "out": str(folder / "run"),
        "tokenizer": str(tokenizer_folder),
        "data": str(folder / "data"),
        "sources": ["storyland:0:40"],
        "valid": ["storyland:10000000:2"],
        "valid_texts": 2,
        "row_tokens": 64,
        "autoencoder": str(autoencoder),
        "posterior_samples": 8,
        "token_loss_weight": 1.0,
        "model": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_mlp_layers": 1,
            "noise_size": 8,
            "num_samples": 3,
            "max_position_embeddings": 64,
        },
        **changes,
    }


def baseline_settings(folder: Path, tokenizer_folder: Path, autoencoder: Path, **changes) -> dict:
    settings = lm_settings(folder, tokenizer_folder, autoencoder, **changes)
    for other in ("autoencoder", "posterior_samples", "token_loss_weight"):
        settings.pop(other)
    for other in ("num_mlp_layers", "noise_size", "num_samples"):
        settings["model"].pop(other)
    return settings
