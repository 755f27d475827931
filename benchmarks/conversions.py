"""Writes the bundled token-by-token model in the formats of other engines, from the same weights."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import calm

GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def _interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of a query or key matrix [O, I] in the order of llama.cpp, which rotates neighbouring pairs of a head."""
    return weight.view(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def to_gguf(lm: calm.LanguageModel, path: Path, kind: str) -> Path:
    """Writes a Llama as GGUF: ``kind`` is ``f16``, ``f32`` or ``q8_0``; norms stay float32. Needs the package gguf."""
    import gguf

    kinds = {
        "f16": gguf.GGMLQuantizationType.F16,
        "f32": gguf.GGMLQuantizationType.F32,
        "q8_0": gguf.GGMLQuantizationType.Q8_0,
    }
    files = {
        "f16": gguf.LlamaFileType.MOSTLY_F16,
        "f32": gguf.LlamaFileType.ALL_F32,
        "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    }
    config = lm.llama.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(files[kind])
    _add_tokenizer(writer, lm)

    def add(name: str, tensor: torch.Tensor) -> None:
        data: Any = tensor.detach().float().contiguous().numpy()
        chosen = kinds[kind] if tensor.ndim > 1 else kinds["f32"]
        writer.add_tensor(name, gguf.quants.quantize(data, chosen), raw_dtype=chosen)

    model = lm.llama.model
    add("token_embd.weight", model.embed_tokens.weight)  # tied: llama.cpp takes it as the output matrix, too
    add("output_norm.weight", model.norm.weight)
    heads = {"self_attn.q_proj": config.num_attention_heads, "self_attn.k_proj": config.num_key_value_heads}
    for number, layer in enumerate(model.layers):
        for ours, theirs in GGUF_NAMES.items():
            weight = layer.get_submodule(ours).weight
            weight = _interleaved(weight, heads[ours]) if ours in heads else weight
            add(f"blk.{number}.{theirs}.weight", weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_tokenizer(writer: Any, lm: calm.LanguageModel) -> None:
    """The vocabulary by id. Prompts are token ids here, so the merges are not needed to measure with it."""
    import gguf
    from tokenizers import Tokenizer

    backend: Tokenizer = lm.tokenizer.backend_tokenizer
    special = set(lm.tokenizer.all_special_ids)
    tokens = [backend.id_to_token(i) or f"<unused {i}>" for i in range(lm.llama.config.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [gguf.TokenType.CONTROL if i in special else gguf.TokenType.NORMAL for i in range(len(tokens))]
    )
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(lm.tokenizer.bos_token_id)
    writer.add_eos_token_id(lm.tokenizer.eos_token_id)


def to_ctranslate2(folder: Path, out: Path, quantization: str) -> Path:
    """Writes a Llama folder for CTranslate2: ``float32`` or ``int8``. Needs the package ``ctranslate2``."""
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(folder)).convert(str(out), quantization=quantization, force=True)
    return out


def to_onnx(folder: Path, out: Path, precision: str) -> Path:
    """Writes a Llama folder for onnxruntime-genai: ``fp32``, ``int8`` or ``int4``. Needs the packages
    ``onnxruntime-genai``, ``onnx`` and ``onnx-ir``."""
    builder = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-e", "cpu", "-p", precision]
    subprocess.run([*builder, "-i", folder, "-o", out, "-c", out / "cache"], check=True, capture_output=True)
    return out
