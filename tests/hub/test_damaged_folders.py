"""Damaged and unusual model folders are reported in one sentence that names the file and the remedy."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import calm
from calm import CalmError
from calm.cli import main
from calm.hub import checksums
from calm.hub.loading import load_autoencoder
from calm.hub.saving import save
from calm.hub.weights import copy_weights, list_weights
from calm.modeling.autoencoder import Autoencoder

from ..conftest import tiny_config

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 7\n"


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    save(tiny(4), tmp_path / "model", torch.float32)
    return tmp_path / "model"


def change_config(folder: Path, **changes) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def change_tokenizer(folder: Path, **changes) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **changes}))


def change_weights(folder: Path, change: Callable[[dict], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors")


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def cut(name: str, size: int) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def with_autoencoder(folder: Path, k: int, vocabulary: int) -> None:
    """Replaces the autoencoder in the folder by another one of random weights."""
    config = tiny_config(k, vocabulary).autoencoder_config()
    weights = {f"ae_model.{name}": w.clone() for name, w in Autoencoder(config).state_dict().items()}
    change_config(folder, autoencoder=config.to_dict())
    change_weights(
        folder, lambda w: ([w.pop(name) for name in list(w) if name.startswith("ae_model.")], w.update(weights))
    )


def as_shards(folder: Path, names: object) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))


def as_pickle(folder: Path, content: object) -> None:
    (folder / "model.safetensors").unlink()
    torch.save(content, folder / "pytorch_model.bin")


LAST_LAYER = "generative_head.net.final_layer.linear"
WEIGHTS, CONFIG, INDEX = "model.safetensors", "config.json", "model.safetensors.index.json"
DAMAGES = {
    "config is a pointer": (write(CONFIG, POINTER), "model/config.json is a Git LFS pointer.*git lfs pull"),
    "config is empty": (write(CONFIG, ""), "model/config.json is empty; download it again"),
    "config is a list": (write(CONFIG, "[1, 2]"), "model/config.json must hold a JSON object, not a list"),
    "config is a page": (write(CONFIG, "<!doctype html>"), "model/config.json is a web page.*download the file itself"),
    "config is UTF-16": (write(CONFIG, "{}".encode("utf-16")), "model/config.json is not UTF-8 text; save it as UTF-8"),
    "config has a byte order mark": (write(CONFIG, b"\xef\xbb\xbf{}"), "model/config.json is not valid JSON"),
    "config is cut": (cut(CONFIG, 40), "model/config.json is not valid JSON; download it again"),
    "config is deep": (write(CONFIG, '{"a":' * 100_000), "model/config.json is not valid JSON"),
    "config has a wrong type": (
        lambda f: change_config(f, hidden_size="wide"),
        "config.json does not describe a",
    ),
    "config has heads that do not divide": (lambda f: change_config(f, num_attention_heads=0), "does not describe"),
    "config has another vocabulary": (
        lambda f: change_config(f, vocab_size=77),
        r"The weights of model do not fit its configuration \(.*embed_tokens.weight has the shape",
    ),
    "unknown head": (
        lambda f: change_config(f, architectures=["GanTransformer"]),
        "kind 'GanTransformer' cannot be",
    ),
    "another model": (lambda f: change_config(f, architectures=["BertModel"]), "kind 'BertModel' cannot be run here"),
    "autoencoder of another K": (
        lambda f: with_autoencoder(f, 2, 600),
        "The autoencoder of model has K = 2 and vectors of 16 numbers; needed are K = 4",
    ),
    "autoencoder of another vocabulary": (
        lambda f: with_autoencoder(f, 4, 601),
        "The autoencoder of model has a vocabulary of 601 tokens, the model one of 600",
    ),
    "weights name no kind of model": (
        lambda f: (
            change_config(f, architectures=None),
            change_weights(f, lambda w: (w.clear(), w.update({f"{LAST_LAYER}.weight": torch.ones(16, 32)}))),
        ),
        "kind 'unknown' cannot be run here",
    ),
    "no autoencoder": (
        lambda f: (
            change_config(f, autoencoder=None, ae_path="../somewhere"),
            change_weights(f, lambda w: [w.pop(name) for name in list(w) if name.startswith("ae_model.")]),
            (f.parent / "somewhere").mkdir(),
        ),
        "could not be downloaded|does not exist on the Hugging Face Hub",
    ),
    "weights are a pointer": (write(WEIGHTS, POINTER), "model/model.safetensors is a Git LFS pointer.*git lfs pull"),
    "weights are empty": (write(WEIGHTS, ""), "model/model.safetensors is empty; download it again"),
    "weights are cut": (cut(WEIGHTS, 5000), "model/model.safetensors is cut or damaged; download it again"),
    "weights are a page": (write(WEIGHTS, "<html>" * 99), "model/model.safetensors is cut or damaged"),
    "weights are missing": (lambda f: (f / WEIGHTS).unlink(), "The folder model holds no weights"),
    "weights lack a tensor": (
        lambda f: change_weights(f, lambda w: w.pop("embed_proj.0.weight")),
        r"do not fit its configuration \(embed_proj.0.weight is missing\)",
    ),
    "weights hold another tensor": (
        lambda f: change_weights(f, lambda w: w.update(odd=torch.ones(1))),
        r"do not fit its configuration \(odd is not part of it\)",
    ),
    "index is damaged": (lambda f: as_shards(f, None), f"model/{INDEX} does not list the files"),
    "index leaves the folder": (lambda f: as_shards(f, {"a": "../b.safetensors"}), "does not list the files"),
    "shard is missing": (lambda f: as_shards(f, {"a": "part-2.safetensors"}), "model/part-2.safetensors is missing"),
    "pickle is cut": (lambda f: (as_pickle(f, {}), cut("pytorch_model.bin", 99)(f)), "pytorch_model.bin is cut"),
    "pickle holds a list": (lambda f: as_pickle(f, [1]), "model/pytorch_model.bin does not hold tensors by name"),
    "tokenizer is missing": (
        lambda f: [path.unlink() for path in f.glob("*token*")],
        "The tokenizer of model cannot be read; download its tokenizer.json",
    ),
    "tokenizer is cut": (cut("tokenizer.json", 5000), "The tokenizer of model cannot be read"),
    "tokenizer has no end of text": (
        lambda f: change_tokenizer(f, eos_token=None),
        "The tokenizer of model has no end-of-text token; name it in model/tokenizer_config.json",
    ),
    "tokenizer is another model's": (
        lambda f: shutil.copy("checkpoints/story-k4/tokenizer.json", f),
        "The tokenizer of model has 4,096 tokens and the model reads 600",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_reported_in_one_sentence(name, folder, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    damage, sentence = DAMAGES[name]
    damage(folder)
    with pytest.raises(CalmError, match=sentence) as error:
        calm.load(folder, device="cpu")
    assert "\n" not in str(error.value)


def test_the_command_line_shows_the_sentence(folder, capsys):
    (folder / "config.json").write_text("[]")
    assert main(["generate", "--model", str(folder)]) == 2
    assert capsys.readouterr().err == (
        "error: model/config.json must hold a JSON object, not a list; download it again.\n"
    )


def test_python_code_in_a_folder_never_runs(folder, capsys):
    """A folder that names its own tokenizer class would run its Python file. It is refused without a question."""
    change_tokenizer(folder, auto_map={"AutoTokenizer": ["evil.Tokenizer", None]}, tokenizer_class="Evil")
    change_config(folder, auto_map={"AutoTokenizer": "evil.Tokenizer", "AutoModel": "evil.Model"})
    (folder / "evil.py").write_text("print('executed')\n")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CalmError, match="The tokenizer of model cannot be read"):
        calm.load(folder, device="cpu")
    assert "executed" not in capsys.readouterr().out


def test_old_llama_folders_load(tiny_ar, tmp_path):
    """They store the frequencies of rotary embeddings, and may lack ``architectures`` and a tied output matrix."""
    save(tiny_ar, tmp_path / "old", torch.float32)
    weights = {name: w.clone() for name, w in tiny_ar.model.state_dict().items() if name != "lm_head.weight"}
    for layer in range(2):
        weights[f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, tmp_path / "old" / WEIGHTS)
    config = json.loads((tmp_path / "old" / CONFIG).read_text())
    for key in ("architectures", "tie_word_embeddings", "model_type"):
        config.pop(key)
    (tmp_path / "old" / CONFIG).write_text(json.dumps(config))
    lm = calm.load(tmp_path / "old", device="cpu")
    assert torch.equal(lm.llama.lm_head.weight, tiny_ar.llama.lm_head.weight)
    ids = torch.tensor([lm.tokenize("Once upon a time")])
    assert torch.equal(lm.llama(ids).logits, tiny_ar.llama(ids).logits)


def test_a_damaged_autoencoder_folder_is_reported_in_one_sentence(tiny, tmp_path):
    tiny(4).calm.ae_model.save_pretrained(tmp_path / "ae")
    assert load_autoencoder(tmp_path / "ae").config.patch_size == 4
    cut(WEIGHTS, 3000)(tmp_path / "ae")
    with pytest.raises(CalmError, match=r"ae/model.safetensors is cut or damaged"):
        load_autoencoder(tmp_path / "ae")


@pytest.mark.parametrize("device", ["tpu9", "cuda:99", "meta-device"])
def test_an_unknown_device_is_reported_in_one_sentence(device, folder):
    with pytest.raises(CalmError, match=f"There is no device '{device}' on this machine"):
        calm.load(folder, device=device)


@pytest.mark.parametrize(
    "text", ["CUDA error: out of memory\nCompile with ...", "CUDA out of memory. Tried to allocate"]
)
def test_a_device_whose_memory_is_full_is_not_a_missing_one(text, folder, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError(text)

    monkeypatch.setattr(torch, "empty", fail)
    with pytest.raises(
        CalmError, match="The memory of the device 'cuda:0' is full; end other programs on it, or choose"
    ):
        calm.load(folder, device="cuda:0")


def test_weights_that_differ_from_the_manifest_are_refused(folder):
    (folder.parent / checksums.MANIFEST).write_text("")
    checksums.update(folder)
    assert calm.load(folder, device="cpu").chunk_size == 4
    change_weights(folder, lambda w: w["embed_proj.0.bias"].add_(1))
    with pytest.raises(CalmError, match=r"model/model.safetensors does not match its checksum in SHA256SUMS; restore"):
        calm.load(folder, device="cpu")
    checksums.update(folder)
    assert calm.load(folder, device="cpu").chunk_size == 4


def test_the_manifest_lists_the_weights_of_each_bundled_model():
    from calm.hub.folders import CHECKPOINTS

    for name in calm.bundled():
        for path in (CHECKPOINTS / name).glob("*.safetensors"):
            checksums.verify(path)
    listed = {line.split()[1] for line in (CHECKPOINTS / checksums.MANIFEST).read_text().splitlines()}
    assert listed == {f"{path.parent.name}/{path.name}" for path in CHECKPOINTS.glob("*/*.safetensors")}


def test_a_pickled_tensor_of_fewer_bytes_than_its_size_says_is_read(tmp_path):
    """An expanded tensor repeats its bytes. The memory after them belongs to others and is not dropped."""
    torch.save({"wide": torch.full((1,), 3.0).expand(4096, 1024)}, tmp_path / "pytorch_model.bin")
    target = torch.empty(4096, 1024)
    copy_weights(list_weights(tmp_path), {"wide": target})
    assert (target == 3).all()
