"""Folders in the official format: names, fields and tokenizer files as transformers 4.43 reads them."""

import json
import shutil

import huggingface_hub.constants
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModel

import calm
from calm import CalmError
from calm.cli import main
from calm.hub.official import save_official
from calm.modeling.autoencoder import Autoencoder
from calm.modeling.calm import MODELS
from calm.modeling.config import AutoencoderConfig, CalmConfig

from ..conftest import tiny_config
from ..modeling import test_parity
from ..modeling.heads import test_parity as test_heads_parity
from .fake_hub import running_hub

# The fields of files that the official code wrote.
FIELDS = set(
    "ae_path architectures attention_bias attention_dropout beta bos_token_id eos_token_id hidden_act hidden_size "
    "initializer_range intermediate_size latent_size max_position_embeddings mlp_bias noise_size num_attention_heads "
    "num_hidden_layers num_key_value_heads num_mlp_layers num_samples pad_token_id patch_size pretraining_tp "
    "rms_norm_eps rope_scaling rope_theta tie_word_embeddings torch_dtype transformers_version use_cache "
    "vocab_size".split()
)
AUTOENCODER_FIELDS = set(
    "ae_dropout architectures bos_token_id eos_token_id hidden_act hidden_size initializer_range intermediate_size "
    "kl_clamp kl_weight latent_size mlp_bias num_decoder_layers num_encoder_layers pad_token_id patch_size "
    "pretraining_tp rms_norm_eps tie_word_embeddings torch_dtype transformers_version vocab_size".split()
)


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("head", MODELS)
def test_a_folder_has_the_names_and_fields_of_the_official_format(tiny, tmp_path, head):
    lm = tiny(4, head=head)
    save_official(lm, tmp_path / "model", torch.float32)
    config = read(tmp_path / "model" / "config.json")
    assert config.keys() - {"model_type", "text_start"} == FIELDS
    assert config["model_type"] == head and config["architectures"] == [type(lm.model).__name__]
    assert config["rope_theta"] == 10000.0 and config["rope_scaling"] is None and config["torch_dtype"] == "float32"
    assert config["ae_path"] == str(tmp_path / "model" / "autoencoder")
    autoencoder = read(tmp_path / "model" / "autoencoder" / "config.json")
    assert autoencoder.keys() - {"model_type"} == AUTOENCODER_FIELDS
    for folder, module in (("model", lm.model), ("model/autoencoder", lm.calm.ae_model)):
        with safe_open(tmp_path / folder / "model.safetensors", "pt") as file:
            assert file.metadata() == {"format": "pt"}  # transformers 4.43 refuses other files
            assert set(file.keys()) == set(module.state_dict())
    tokenizer = read(tmp_path / "model" / "tokenizer.json")
    assert all(isinstance(merge, str) and merge.count(" ") == 1 for merge in tokenizer["model"]["merges"])
    fields = read(tmp_path / "model" / "tokenizer_config.json")
    assert fields["tokenizer_class"] == "PreTrainedTokenizerFast" and fields["pad_token"] == "[PAD]"
    assert fields["added_tokens_decoder"]["0"]["content"] == fields["bos_token"] == "<|begin_of_text|>"
    again = calm.load(tmp_path / "model", device="cpu")
    assert again.text_format == lm.text_format and again.tokenizer.get_vocab() == lm.tokenizer.get_vocab()
    assert again.tokenize("Once upon a time") == lm.tokenize("Once upon a time")
    for name, tensor in lm.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], tensor), name


@pytest.mark.parametrize("head", MODELS)
def test_a_written_folder_computes_the_recorded_figures(tokenizer, tmp_path, head):
    """The figures are those that the official code computed for the same weights."""
    source = MODELS[head](tiny_config(4))
    test_parity.fixed_weights(source)
    save_official(calm.LanguageModel("m", source, tokenizer), tmp_path / "m", torch.float32)
    autoencoder = read(tmp_path / "m" / "autoencoder" / "config.json")
    encoder = Autoencoder(AutoencoderConfig(**autoencoder)).eval()
    encoder.load_state_dict(load_file(tmp_path / "m" / "autoencoder" / "model.safetensors"))
    model = MODELS[head](CalmConfig(**read(tmp_path / "m" / "config.json"), autoencoder=autoencoder)).eval()
    model.load_state_dict(load_file(tmp_path / "m" / "model.safetensors"))
    ids = (torch.arange(24) * 37 % 299).view(2, 12)
    with torch.no_grad():
        hidden, mean = model(ids), encoder.encode(ids.unflatten(-1, (-1, 4)))[0]
        if head == "energy":
            recorded = read(test_parity.RECORDED)["4"]
            drawn = model.generative_head(hidden, torch.sin(torch.arange(48) * 1.7).view(2, 3, 8) / 2)
            computed = {"mean": mean, "hidden": hidden, "head": drawn}
        else:
            recorded = read(test_heads_parity.RECORDED)[f"{head}, K = 4"]
            noise = test_heads_parity.waves(6, *model.generative_head.noise_shape)
            computed = {"draw": model.generative_head(hidden.flatten(0, 1), noise)}
    for name, values in computed.items():
        assert values.flatten()[:48].tolist() == pytest.approx(recorded[name], rel=1e-4, abs=1e-5), name


def test_an_autoencoder_in_the_weights_needs_no_path(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lm = tiny(4)
    save_official(lm, tmp_path / "m", torch.float32, ae_path="/mnt/authors/checkpoints/autoencoder")
    assert read(tmp_path / "m" / "config.json")["ae_path"] == "/mnt/authors/checkpoints/autoencoder"
    shutil.rmtree(tmp_path / "m" / "autoencoder")
    again = calm.load(tmp_path / "m", device="cpu")
    assert calm.reconstruct(again, "Once upon").chunks[0].mean == pytest.approx(
        calm.reconstruct(lm, "Once upon").chunks[0].mean
    )


def test_another_autoencoder_replaces_the_models_own(tiny, tiny_ar, tmp_path):
    lm, other = tiny(4), tiny(4)
    with torch.no_grad():
        other.calm.ae_model.decoder.norm.weight.mul_(2)
    save_official(lm, tmp_path / "m", torch.float32)
    save_official(other, tmp_path / "other", torch.float32)
    save_official(tiny(2), tmp_path / "two", torch.float32)
    save_official(tiny_ar, tmp_path / "tokens", torch.float32)
    for name in ("other", "other/autoencoder"):  # a CALM and an autoencoder
        again = calm.load(tmp_path / "m", device="cpu", autoencoder=tmp_path / name).calm
        assert torch.equal(again.ae_model.decoder.norm.weight, other.calm.ae_model.decoder.norm.weight)
        assert torch.equal(again.embed_proj[0].weight, lm.calm.embed_proj[0].weight)
    with pytest.raises(CalmError, match=r"two has K = 2 and vectors of 16 numbers; needed are K = 4 and 16 numbers"):
        calm.load(tmp_path / "m", device="cpu", autoencoder=tmp_path / "two")
    with pytest.raises(CalmError, match="tokens works token by token and has no autoencoder"):
        calm.load(tmp_path / "tokens", device="cpu", autoencoder=tmp_path / "m")
    assert read(tmp_path / "tokens" / "config.json")["model_type"] == "llama"


def test_the_command_writes_the_official_format(tmp_path, capsys):
    assert main(["export", "story-k1", "--official", str(tmp_path / "m"), "--ae-path", "owner/ae"]) == 0
    assert read(tmp_path / "m" / "config.json")["ae_path"] == "owner/ae"
    assert calm.load(tmp_path / "m", device="cpu").chunk_size == 1


def test_transformers_loads_a_bundled_folder():
    model = AutoModel.from_pretrained("checkpoints/story-k1")
    assert type(model) is MODELS["energy"] and model.config.patch_size == 1


def test_a_model_is_pushed_to_the_hub(tiny, tmp_path, monkeypatch):
    lm = tiny(4)
    with running_hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.endpoint)
        address = f"{hub.endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
        lm.model.push_to_hub("me/model", token="hf_test")
        for name, content in hub.files("me/model").items():
            (tmp_path / name).write_bytes(content)
    lm.tokenizer.save_pretrained(tmp_path)
    again = calm.load(tmp_path, device="cpu")
    assert all(torch.equal(again.model.state_dict()[name], tensor) for name, tensor in lm.model.state_dict().items())


def test_an_autoencoder_alone_is_refused_in_one_sentence(tiny, tmp_path):
    lm = tiny(4)
    alone = calm.LanguageModel("the-autoencoder", lm.calm.ae_model, lm.tokenizer)
    with pytest.raises(CalmError, match="the-autoencoder is an autoencoder; write the CALM that has it"):
        save_official(alone, tmp_path / "m")
    assert not (tmp_path / "m").exists()
