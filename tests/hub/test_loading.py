import copy
import json
import pickle
import re
import shutil

import pytest
import torch

import calm
from calm import CalmError
from calm.cli import main
from calm.engine.memory import used_memory
from calm.hub.folders import CHECKPOINTS
from calm.hub.saving import average, save
from calm.hub.weights import list_weights
from calm.modeling.autoencoder import Autoencoder
from calm.modeling.config import AutoencoderConfig


def test_bundled_models_are_listed_and_small():
    assert {"story-ar", "story-k1", "story-k2", "story-k4", "story-k8"} <= set(calm.bundled())
    total = 0
    for name in calm.bundled():
        sizes = [f.stat().st_size for f in (CHECKPOINTS / name).rglob("*")]
        total += sum(sizes)
        assert max(sizes) < 9_000_000
        assert sum(sizes) < 45_000_000
        assert (CHECKPOINTS / name / "README.md").is_file()
    assert total < 150_000_000


def test_the_bundled_model_has_the_promised_size(story):
    assert story.num_parameters <= 13_000_000
    assert story.chunk_size == 4 and story.is_calm
    assert story.device.type == "cpu" and story.dtype == torch.float32


def test_a_saved_model_loads_again(tiny, tiny_ar, tmp_path):
    for lm in (tiny(4), tiny(1), tiny(16), tiny_ar):
        save(lm, tmp_path / lm.name, torch.float32)
        again = calm.load(tmp_path / lm.name, device="cpu")
        assert again.chunk_size == lm.chunk_size and again.is_calm == lm.is_calm
        for name, tensor in lm.model.state_dict().items():
            assert torch.equal(tensor, again.model.state_dict()[name]), name


def test_a_model_may_share_the_autoencoder_of_a_neighbouring_folder(tiny, tmp_path):
    lm, other = tiny(4), tiny(4)
    save(lm, tmp_path / "source", torch.float32)
    save(lm, tmp_path / "sharing", torch.float32, shared_autoencoder="source")
    assert not any(name.startswith("ae_model.") for name in list_weights(tmp_path / "sharing"))
    again = calm.load(tmp_path / "sharing", device="cpu")
    for model in (lm.model, again.model):  # saving does not change the model
        assert model.config.autoencoder["latent_size"] == lm.calm.config.latent_size
        assert all(torch.equal(weight, lm.model.state_dict()[name]) for name, weight in model.state_dict().items())
    save(again, tmp_path / "whole", torch.float32)
    shutil.rmtree(tmp_path / "source")
    assert calm.load(tmp_path / "whole", device="cpu").chunk_size == 4
    save(again, tmp_path / "second", torch.float32, shared_autoencoder="whole")
    for name, source in (("third", "second"), ("whole", "whole")):
        with pytest.raises(CalmError, match=f"{source} cannot share"):
            save(again, tmp_path / name, torch.float32, shared_autoencoder=source)
    torch.nn.init.normal_(other.calm.ae_model.decoder.norm.weight)
    with pytest.raises(CalmError, match="is not that of whole"):
        save(other, tmp_path / "other", torch.float32, shared_autoencoder="whole")


def official(lm, folder, shards: bool, architecture: bool = True):
    """Writes a model like the official code: a pickle, the autoencoder in its own folder, the head under two names."""
    folder.mkdir()
    neighbour = folder.parent / "the-autoencoder"
    neighbour.mkdir()
    config = lm.calm.config.to_dict()
    (neighbour / "config.json").write_text(json.dumps(config.pop("autoencoder")))
    config |= {"ae_path": "runs/the-autoencoder", "rope_theta": 10000.0}
    config["architectures"] = [type(lm.model).__name__] if architecture else None
    for ours in ("model_type", "rope_parameters", "head", "num_sampling_steps"):
        config.pop(ours)
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "energy", "rope_scaling": None}))
    lm.tokenizer.save_pretrained(folder)
    weights = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    if not shards:
        torch.save(weights, folder / "pytorch_model.bin")
        return weights
    files = {}
    for number, part in enumerate((dict(list(weights.items())[::2]), dict(list(weights.items())[1::2]))):
        torch.save(part, folder / f"part-{number}.bin")
        files |= dict.fromkeys(part, f"part-{number}.bin")
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    return weights


@pytest.mark.parametrize("shards", [False, True])
def test_official_folders_load_unchanged(tiny, tmp_path, shards):
    weights = official(tiny(4), tmp_path / "official", shards)
    lm = calm.load(tmp_path / "official", device="cpu")
    for name, tensor in weights.items():
        assert torch.equal(lm.model.state_dict()[name], tensor), name
    assert list(calm.generate(lm, "Once", max_new_tokens=4, pool_size=5))


@pytest.mark.parametrize("head", ["energy", "diffusion", "flow"])
@pytest.mark.parametrize("architecture", [True, False])
def test_the_head_follows_the_architecture_or_the_names_of_the_weights(tiny, tmp_path, head, architecture):
    original = tiny(2, head=head)
    official(original, tmp_path / "official", False, architecture)
    lm = calm.load(tmp_path / "official", device="cpu")
    assert type(lm.model) is type(original.model) and lm.calm.config.head == head
    save(lm, tmp_path / "saved", torch.float32)
    again = calm.load(tmp_path / "saved", device="cpu")
    for other in (lm, again):
        states = original.model.state_dict(), other.model.state_dict()
        assert states[0].keys() == states[1].keys()
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("file_format", ["safetensors", "archive", "old pickle"])
def test_weights_are_copied_to_their_places_in_the_wanted_dtype(tiny, tmp_path, file_format):
    lm = tiny(4)
    save(lm, tmp_path / "model", torch.float32)
    if file_format != "safetensors":
        (tmp_path / "model" / "model.safetensors").unlink()
        archive = file_format == "archive"
        torch.save(
            lm.model.state_dict(), tmp_path / "model" / "pytorch_model.bin", _use_new_zipfile_serialization=archive
        )
    again = calm.load(tmp_path / "model", device="cpu", dtype=torch.bfloat16).calm
    for name, parameter in lm.model.named_parameters(remove_duplicate=False):
        loaded = again.get_parameter(name)
        assert torch.equal(loaded, parameter.to(torch.bfloat16)), name
        assert loaded.requires_grad == parameter.requires_grad, name
    assert again.mlp_generator is again.generative_head
    assert again.ae_model.decoder.lm_head_weight is again.ae_model.encoder.embed_tokens.weight
    for name, buffer in lm.model.named_buffers():
        assert torch.equal(again.get_buffer(name), buffer) and buffer.dtype == torch.float32
    assert not any(tensor.is_meta for tensor in (*again.parameters(), *again.buffers()))


def test_a_pickle_that_holds_code_is_refused(tiny, tmp_path, capsys):
    folder = tmp_path / "official"
    official(tiny(4), folder, shards=False)

    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"x": Evil()}, folder / "pytorch_model.bin")
    with pytest.raises(CalmError, match=r"official/pytorch_model\.bin holds more than tensors") as refused:
        calm.load(folder, device="cpu")
    assert isinstance(refused.value.__cause__, pickle.UnpicklingError)
    assert "executed" not in capsys.readouterr().out


def test_unknown_names_are_reported_in_one_sentence(tmp_path):
    with pytest.raises(CalmError, match=r"There is no model 'story-k5'.*story-k4"):
        calm.load("story-k5")
    with pytest.raises(CalmError, match=r"holds no config\.json"):
        calm.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CalmError, match="not valid JSON"):
        calm.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(CalmError, match="holds no weights"):
        calm.load(tmp_path)


def test_models_of_another_kind_are_named(tiny, tmp_path):
    save(tiny(4), tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps({**config, "architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(CalmError, match=r"GPT2LMHeadModel.*cannot be run here"):
        calm.load(tmp_path / "m")


def test_weights_that_do_not_fit_are_named(tiny, tmp_path):
    from safetensors.torch import save_file

    lm = tiny(4)
    save(lm, tmp_path / "m", torch.float32)
    weights = {n: t.clone() for n, t in lm.model.state_dict().items() if n != "embed_proj.0.weight"}
    weights.pop("ae_model.decoder.lm_head_weight")
    save_file(weights, tmp_path / "m" / "model.safetensors")
    with pytest.raises(CalmError, match=r"do not fit its configuration \(embed_proj"):
        calm.load(tmp_path / "m")


def test_models_of_one_shape_are_exported_as_their_mean(tiny, tmp_path, capsys):
    record = {"sources": ["storyland:0:40"], "steps": 12, "tokens": 100, "seconds": 5.0}
    models = [tiny(4), tiny(4)]
    for number, lm in enumerate(models):
        for tensor in lm.model.parameters():
            tensor.data.add_(number)
        save(lm, tmp_path / f"run-{number}" / "best", torch.float32)
        (tmp_path / f"run-{number}" / "training.json").write_text(json.dumps({**record, "steps": 12 + number}))
    runs = [str(tmp_path / f"run-{number}" / "best") for number in range(2)]
    assert main(["export", *runs, str(tmp_path / "mean")]) == 0
    mean = calm.load(tmp_path / "mean", device="cpu").model.state_dict()
    for name, tensor in models[0].model.state_dict().items():
        assert torch.allclose(mean[name], tensor + 0.5, atol=0.01), name
    assert json.loads((tmp_path / "mean" / "training.json").read_text())["averaged"] == [{**record, "steps": 13}]
    save(tiny(2), tmp_path / "other")
    assert main(["export", runs[0], str(tmp_path / "other"), str(tmp_path / "none")]) == 2
    assert "different shapes" in capsys.readouterr().err and not (tmp_path / "none").exists()
    models[1].tokenizer = copy.deepcopy(models[1].tokenizer)
    models[1].tokenizer.add_tokens(["a token of its own"])
    with pytest.raises(CalmError, match="different tokenizers, so they cannot be averaged"):
        average(models)


def test_an_autoencoder_alone_reconstructs_texts_and_generates_none(tiny, tmp_path):
    whole, folder = tiny(4), tmp_path / "the-autoencoder"
    whole.calm.ae_model.save_pretrained(folder)
    whole.tokenizer.save_pretrained(folder)
    lm = calm.load(folder, device="cpu")
    assert lm.is_autoencoder and not lm.is_calm and (lm.chunk_size, lm.latent_size) == (4, 16)
    for noise in (0.0, 0.5):
        found, expected = (calm.reconstruct(each, "Once upon a time there was a fox.", noise) for each in (lm, whole))
        assert [chunk.decoded_ids for chunk in found.chunks] == [chunk.decoded_ids for chunk in expected.chunks]
    assert used_memory(lm) == sum(parameter.nbytes for parameter in lm.model.parameters())
    for use in (
        lambda: list(calm.generate(lm, "Once")),
        lambda: calm.brier_lm(lm, ["Once upon a time there was a fox."]),
        lambda: calm.draw_pool(lm, "Once"),
        lambda: lm.backbone,
    ):
        with pytest.raises(
            CalmError, match="the-autoencoder is an autoencoder, which generates no text; choose a lang"
        ):
            use()
    with pytest.raises(CalmError, match="is an autoencoder itself"):
        calm.load(folder, device="cpu", autoencoder="story-k4")


def test_a_model_is_exported_with_another_autoencoder(tiny, tmp_path, capsys):
    record = {"sources": ["storyland:0:40"], "steps": 12, "tokens": 100, "seconds": 5.0}
    lm, other = tiny(4), tiny(2)
    narrow = Autoencoder(AutoencoderConfig(**{**lm.calm.config.autoencoder, "hidden_size": 8}))
    larger = Autoencoder(AutoencoderConfig(**{**lm.calm.config.autoencoder, "vocab_size": 700}))
    for name, model in (("run", lm.model), ("narrow", narrow), ("larger", larger), ("two", other.calm.ae_model)):
        model.save_pretrained(tmp_path / name / "best")
        lm.tokenizer.save_pretrained(tmp_path / name / "best")
        (tmp_path / name / "training.json").write_text(json.dumps({**record, "name": name}))
    model, out = str(tmp_path / "run" / "best"), str(tmp_path / "out")
    assert main(["export", model, out, "--autoencoder", str(tmp_path / "narrow" / "best")]) == 0
    loaded = calm.load(out, device="cpu").calm
    assert loaded.ae_model.config.hidden_size == 8 and "_name_or_path" not in loaded.config.autoencoder
    for name, tensor in narrow.state_dict().items():
        assert torch.allclose(loaded.ae_model.state_dict()[name], tensor, rtol=0.01), name
    assert torch.allclose(loaded.embed_proj[0].weight, lm.calm.embed_proj[0].weight, rtol=0.01)
    assert json.loads((tmp_path / "out" / "training.json").read_text())["autoencoder"]["name"] == "narrow"
    assert main(["export", model, out, "--autoencoder", str(tmp_path / "two" / "best")]) == 2
    assert "has K = 2 and vectors of" in capsys.readouterr().err
    sentence = f"The autoencoder {tmp_path / 'larger' / 'best'} has a vocabulary of 700 tokens, the model one of 600"
    assert main(["export", model, out, "--autoencoder", str(tmp_path / "larger" / "best")]) == 2
    assert sentence in capsys.readouterr().err
    with pytest.raises(CalmError, match=re.escape(sentence)):
        calm.load(model, device="cpu", autoencoder=tmp_path / "larger" / "best")
    path = tmp_path / "narrow" / "best" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    vocabulary = tokenizer["model"]["vocab"]  # of the same size, with other ids
    vocabulary["a"], vocabulary["b"] = vocabulary["b"], vocabulary["a"]
    path.write_text(json.dumps(tokenizer))
    sentence = f"{path.parent} was trained with another tokenizer; use models of one tokenizer together."
    assert main(["export", model, out, "--autoencoder", str(path.parent)]) == 2
    assert sentence in capsys.readouterr().err
    with pytest.raises(CalmError, match=re.escape(sentence)):
        calm.load(model, device="cpu", autoencoder=path.parent)


def test_saving_in_another_dtype_does_not_change_the_model(tiny, tmp_path):
    lm = tiny(4)
    before = {name: tensor.clone() for name, tensor in lm.model.state_dict().items()}
    frequencies, address = lm.backbone.rotary_emb.inv_freq.clone(), lm.calm.embed_proj[0].weight.data_ptr()
    save(lm, tmp_path / "half")
    assert all(torch.equal(tensor, before[name]) for name, tensor in lm.model.state_dict().items())
    assert torch.equal(lm.backbone.rotary_emb.inv_freq, frequencies)
    assert lm.calm.embed_proj[0].weight.data_ptr() == address  # a CUDA graph reads it there
    stored = calm.load(tmp_path / "half", device="cpu").model.state_dict()
    assert all(torch.equal(stored[name], tensor.bfloat16().float()) for name, tensor in before.items())
