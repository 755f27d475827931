"""Writes models in the official format: folders that the authors' code (transformers 4.43, tokenizers 0.19) loads.

A CALM becomes two folders: the model, and its autoencoder in ``autoencoder/`` below it. Official files differ from
those of ``save`` in the fields of config.json, in the tokenizer's files, and in that each weight has all its names.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..errors import CalmError
from ..files import filling, write_json
from ..modeling.autoencoder import Autoencoder
from .language_model import LanguageModel
from .saving import remove_other_weights
from .text_format import BEGIN_OF_TEXT, END_OF_TEXT

AUTOENCODER = "autoencoder"
"""The folder of the autoencoder below that of the model, and its ``model_type``."""
TRANSFORMERS_VERSION = "4.43.0"
"""The version of transformers that the official code uses, and that the files are written for."""

SHARED_FIELDS = (
    "architectures vocab_size hidden_size intermediate_size hidden_act mlp_bias rms_norm_eps initializer_range "
    "pad_token_id bos_token_id eos_token_id"
).split()
LLAMA_FIELDS = (
    "num_hidden_layers num_attention_heads num_key_value_heads max_position_embeddings attention_bias attention_dropout"
).split()
CALM_FIELDS = "patch_size latent_size num_mlp_layers noise_size num_samples beta".split()
AUTOENCODER_FIELDS = (
    "patch_size latent_size num_encoder_layers num_decoder_layers ae_dropout kl_clamp kl_weight"
).split()


def save_official(
    lm: LanguageModel, folder: str | Path, dtype: torch.dtype = torch.bfloat16, ae_path: str | None = None
) -> None:
    """Writes a model of either kind as the official code reads it, with safetensors.

    The official code opens the path in ``ae_path`` from its working directory; the default is the absolute path of the
    written autoencoder. Name its Hub id for a folder that you upload. Raises CalmError for an autoencoder alone and if
    the tokenizer has no form that tokenizers 0.19 reads, and OSError that names the folder if it cannot be written.
    """
    if lm.is_autoencoder:
        raise CalmError(f"{lm.name} is an autoencoder; write the CALM that has it, and the autoencoder is beside it.")
    folder = Path(folder)
    config, tokenizer = lm.model.config, _tokenizer_json(lm.tokenizer)
    fields = _fields(lm.model, [*SHARED_FIELDS, *LLAMA_FIELDS], dtype) | _rope_fields(config) | {"use_cache": True}
    if lm.is_calm:
        fields |= {field: getattr(config, field) for field in CALM_FIELDS}
        fields["model_type"] = lm.calm.head
        fields["ae_path"] = ae_path or str((folder / AUTOENCODER).resolve())
        fields["text_start"] = BEGIN_OF_TEXT if lm.text_format.single_start else END_OF_TEXT
    else:
        fields |= {"model_type": "llama", "tie_word_embeddings": config.tie_word_embeddings}
    if lm.is_calm:
        _write_autoencoder(lm.calm.ae_model, folder / AUTOENCODER, dtype)
    with filling(folder) as partial:
        _write(partial, fields, lm.model, dtype)
        _write_tokenizer(partial, lm.tokenizer, tokenizer)
        ids = {field: fields[field] for field in ("bos_token_id", "eos_token_id", "pad_token_id")}
        write_json(
            partial / "generation_config.json",
            {"_from_model_config": True, **ids, "transformers_version": TRANSFORMERS_VERSION},
            indent=2,
        )
        written = {path.name for path in partial.iterdir()}
    remove_other_weights(folder, written)


def _write_autoencoder(autoencoder: Autoencoder, folder: Path, dtype: torch.dtype) -> None:
    fields = _fields(autoencoder, [*SHARED_FIELDS, *AUTOENCODER_FIELDS], dtype)
    with filling(folder) as partial:
        _write(partial, fields | {"model_type": AUTOENCODER}, autoencoder, dtype)


def _fields(model: PreTrainedModel, names: list[str], dtype: torch.dtype) -> dict[str, Any]:
    """The named fields of a configuration, and those that every official folder has."""
    model.config.architectures = [type(model).__name__]
    return {
        **{name: getattr(model.config, name) for name in names},
        "pretraining_tp": 1,
        "tie_word_embeddings": False,  # the official code ties the autoencoder's embedding by itself
        "torch_dtype": str(dtype).removeprefix("torch."),
        "transformers_version": TRANSFORMERS_VERSION,
    }


def _rope_fields(config: PretrainedConfig) -> dict[str, Any]:
    """transformers 4.43 has ``rope_theta`` at the top level and keeps only the scaling in a dictionary."""
    rope = dict(config.rope_parameters)
    theta = rope.pop("rope_theta")
    return {"rope_theta": theta, "rope_scaling": None if rope.get("rope_type") == "default" else rope}


def _write(folder: Path, fields: dict[str, Any], model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Writes config.json and the weights. Weights with several names are written under each of them, because
    transformers 4.43 gives new values to names that are missing."""
    write_json(folder / "config.json", fields, indent=2)
    weights, written = {}, set()
    for name, tensor in model.state_dict().items():
        converted = tensor.to("cpu", dtype).contiguous()
        is_second = converted.data_ptr() in written  # a file holds each tensor's memory once
        weights[name] = converted.clone() if is_second else converted
        written.add(converted.data_ptr())
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _tokenizer_json(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The contents of tokenizer.json with the merges as texts, as tokenizers before 0.20 reads them."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    if content["model"]["type"] == "BPE":
        merges = [merge if isinstance(merge, list) else merge.split(" ") for merge in content["model"]["merges"]]
        if any(" " in part for merge in merges for part in merge):
            raise CalmError("The tokenizer joins tokens with spaces, which tokenizers 0.19 cannot read.")
        content["model"]["merges"] = [" ".join(merge) for merge in merges]
    return content


def _write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerBase, content: dict[str, Any]) -> None:
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    added = {
        str(token["id"]): {name: value for name, value in token.items() if name != "id"}
        for token in content["added_tokens"]
    }
    fields = {
        "added_tokens_decoder": added,
        "clean_up_tokenization_spaces": False,
        "model_max_length": tokenizer.model_max_length,
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
    }
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "tokenizer_config.json", fields, indent=2)
    write_json(folder / "special_tokens_map.json", special, indent=2)
