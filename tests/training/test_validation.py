import json

import pytest

from calm import CalmError
from calm.training import tasks
from calm.training.settings import CalmSettings, LanguageModelSettings
from calm.training.validation import parse

from .conftest import baseline_settings, lm_settings, log

GOOD = {"out": "x", "sources": ["storyland:0:1"], "valid": ["storyland:10000000:1"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepz": 1}, "Unknown setting 'stepz'; did you mean 'steps'"),
        ({"posterior_sample": 1}, "did you mean 'posterior_samples'"),
        ({"zzzzzz": 1}, "Unknown setting 'zzzzzz'; known are accumulation_steps, "),
        ({"out": ""}, "'out' is missing"),
        ({"steps": "many"}, "'steps' must be a whole number, not 'many'"),
        ({"steps": 1.5}, "'steps' must be a whole number, not 1.5"),
        ({"steps": True}, "'steps' must be a whole number, not True"),
        ({"steps": 0}, "'steps' must be at least 1, not 0"),
        ({"learning_rate": "fast"}, "'learning_rate' must be a number, not 'fast'"),
        ({"learning_rate": 0}, "'learning_rate' must be above 0"),
        ({"learning_rate": float("nan")}, "'learning_rate' must be above 0"),
        ({"learning_rate": float("inf")}, "'learning_rate' must be above 0 and finite"),
        ({"seed": 2**32}, "'seed' must be at most 4294967295"),
        ({"compile": 1}, "'compile' must be true or false, not 1"),
        ({"sources": "storyland:0:1"}, "'sources' must be a list of texts"),
        ({"init_layers": ["first"]}, "'init_layers' must be a list of whole numbers"),
        ({"model": []}, "'model' must be a table, not"),
        ({"log_every": 0}, "'log_every' must be at least 1, not 0"),
        ({"validate_every": 0}, "'validate_every' must be at least 1"),
        ({"save_every": -5}, "'save_every' must be at least 1"),
        ({"corruption": 1.5}, "'corruption' must be between 0 and 1, not 1.5"),
        ({"schedule": "square"}, "'schedule' must be constant, cosine or linear, not 'square'"),
        ({"mixed_precision": "fp8"}, "'mixed_precision' must be no, bf16, fp16 or auto, not 'fp8'"),
        ({"sources": []}, "'sources' is missing"),
        ({"valid": []}, "'valid' is missing"),
        ({"primer_steps": 5}, "'primer' is missing"),
        ({"model": {"hiden_size": 64}}, r"Unknown field of \[model\] 'hiden_size'; did you mean 'hidden_size'"),
        ({"model": {"hidden_size": "wide"}}, "'model.hidden_size' must be a whole number"),
        ({"model": {"latent_bound": "high"}}, "'model.latent_bound' must be a number"),
        ({"model": {"num_sampling_steps": 2.5}}, "'model.num_sampling_steps' must be a whole number"),
        ({"model": {"rope_scaling": 2}}, "'model.rope_scaling' must be a table"),
        ({"model": {"num_hidden_layers": 0}}, "'model.num_hidden_layers' must be at least 1"),
        ({"model": {"hidden_size": 100, "num_attention_heads": 3}}, "100 cannot be split over 3 attention heads"),
        ({"model": {"hidden_size": 12, "num_attention_heads": 4}}, "12 cannot be split over 4 attention heads"),
        ({"model": {"num_attention_heads": 8, "num_key_value_heads": 3}}, "cannot share 3 key/value heads"),
        ({"model": {"num_samples": 1}}, "at least 2 samples"),
        ({"model": {"beta": 2.0}}, "'model.beta' must be between 0 and 2, not 2.0"),
        ({"model": {"head": "softmax"}}, "head must be one of energy, diffusion, flow"),
        ({"init_from": "story-k4", "init_backbone_from": "story-ar"}, "not from both"),
        ({"head_warmup_from": 0.5}, "set 'token_loss_weight' or 'distil_from'"),
        ({"distil_from": "story-k4"}, "up to 'head_warmup_from' alone; set that above 0"),
        ({"new_head": True}, "'new_head' replaces the head of 'init_from'"),
        ({"init_layers": [0]}, "'init_layers' chooses layers of 'init_from'"),
    ],
)
def test_settings_are_checked_before_anything_is_loaded(changes, message):
    with pytest.raises(CalmError, match=message):
        parse(CalmSettings, {**GOOD, **changes})


def test_good_settings_pass():
    assert parse(CalmSettings, GOOD).posterior_samples == 100
    assert parse(LanguageModelSettings, {**GOOD, "learning_rate": 1, "model": {"tie_word_embeddings": True}}).steps


def test_an_autoencoder_needs_sources_and_shares_that_fit():
    sources = {"stories": ["storyland:0:1"]}
    good = {"out": "x", "sources": sources, "valid": sources}
    for changes, message in (
        ({"sources": {}}, "'sources' is missing"),
        ({"sources": {"stories": []}}, "'sources.stories' names no text"),
        ({"valid": {}}, "'valid' is missing"),
        ({"shares": {"story": 1.0}}, "'story'; did you mean 'stories'"),
        ({"shares": {"stories": 0.0}}, "one of them must be above 0"),
        ({"shares": {"stories": float("nan")}}, "must be a number of at least 0"),
        ({"shares": {"stories": float("inf")}}, "must be a number of at least 0"),
        ({"model": {"patch_size": 0}}, "'model.patch_size' must be at least 1"),
    ):
        with pytest.raises(CalmError, match=message):
            tasks.make("autoencoder", {**good, **changes})


def test_missing_validation_texts_raise_before_training(tmp_path, tokenizer_folder, autoencoder):
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    for source, message in (
        (str(empty), "'valid' names no text"),
        ("nowhere.txt", "There is no text at 'nowhere.txt'"),
    ):
        settings = lm_settings(tmp_path, tokenizer_folder, autoencoder, valid=[source], tokenizer="nowhere")
        with pytest.raises(CalmError, match=message):
            tasks.train("lm", settings)
        with pytest.raises(CalmError, match=message):
            tasks.train("baseline", baseline_settings(tmp_path, tokenizer_folder, autoencoder, valid=[source]))
    coded = json.loads((autoencoder.parent / "settings.json").read_text())
    with pytest.raises(CalmError, match=r"'valid\.stories' names no text"):
        tasks.train("autoencoder", {**coded, "out": str(tmp_path / "run"), "valid": {"stories": [str(empty)]}})
    assert not (tmp_path / "run").exists()


def test_rows_must_fit_the_model(tmp_path, tokenizer_folder, autoencoder):
    for row_tokens, message in (
        (66, "does not divide into chunks of 4"),
        (260, "longer than the model's context of 256"),
    ):
        with pytest.raises(CalmError, match=message):
            tasks.make("lm", lm_settings(tmp_path, tokenizer_folder, autoencoder, row_tokens=row_tokens))


def test_a_damaged_state_is_reported_in_one_sentence_and_the_earlier_one_stays(tmp_path, tokenizer_folder, autoencoder):
    settings = baseline_settings(tmp_path, tokenizer_folder, autoencoder, steps=2, schedule="constant")
    tasks.train("baseline", settings)
    newest, previous = tmp_path / "run" / "state.pt", tmp_path / "run" / "state.previous.pt"
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    with pytest.raises(CalmError, match=r"state\.pt is damaged; rename state\.previous\.pt to state\.pt"):
        tasks.train("baseline", {**settings, "steps": 3})
    previous.replace(newest)
    tasks.train("baseline", {**settings, "steps": 3})
    assert [row["step"] for row in log(tmp_path / "run") if "loss" in row] == [1, 2, 3]  # the log has each step once
    newest.write_bytes(b"")
    previous.unlink()
    with pytest.raises(CalmError, match=r"state\.pt is damaged; delete it to start the run again"):
        tasks.train("baseline", settings)


def test_a_state_of_another_shape_is_refused(tmp_path, tokenizer_folder, autoencoder):
    settings = baseline_settings(tmp_path, tokenizer_folder, autoencoder, steps=1)
    tasks.train("baseline", settings)
    wider = {**settings, "model": {**settings["model"], "intermediate_size": 80}}
    with pytest.raises(CalmError, match="belongs to a model of another shape"):
        tasks.train("baseline", wider)
