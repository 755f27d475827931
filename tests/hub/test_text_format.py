"""The format of texts follows from the checkpoint: start tokens, end tokens and alignment."""

import json

import pytest
import torch
from tokenizers.processors import TemplateProcessing

import calm
from calm.generation import align
from calm.hub.saving import save
from calm.hub.text_format import TextFormat, begin_of_text_format, detect_format, end_of_text_format

from .test_loading import official

BOS, EOS = 0, 1


@pytest.fixture
def official_lm(tiny):
    """A tiny model whose texts are in the format of official models."""

    def build(k: int = 4, **changes) -> calm.LanguageModel:
        lm = tiny(k, **changes)
        lm.text_format = begin_of_text_format(lm.tokenizer)
        return lm

    return build


def test_models_trained_here_start_and_end_texts_with_end_of_text(story, tiny_ar, tmp_path):
    for lm in (story, tiny_ar):
        assert lm.text_format == TextFormat(EOS, frozenset([EOS]))
        save(lm, tmp_path / lm.name)
        assert calm.load(tmp_path / lm.name, device="cpu").text_format == lm.text_format


def test_official_checkpoints_start_texts_with_begin_of_text(tiny, tmp_path):
    official(tiny(4), tmp_path / "official", shards=False)
    expected = TextFormat(BOS, frozenset([BOS, EOS]), single_start=True, alignment="condition")
    lm = calm.load(tmp_path / "official", device="cpu")
    assert lm.text_format == expected
    save(lm, tmp_path / "saved")
    assert calm.load(tmp_path / "saved", device="cpu").text_format == expected
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["text_start"] == "begin-of-text"


def test_a_tokenizer_that_adds_begin_of_text_decides_the_format(tokenizer_folder):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder)
    assert detect_format({}, tokenizer) == end_of_text_format(tokenizer)
    bos = tokenizer.bos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{bos} $A", special_tokens=[(bos, BOS)])
    assert detect_format({}, tokenizer) == begin_of_text_format(tokenizer)


def test_one_start_token_precedes_a_prompt_of_an_official_model(official_lm):
    lm, pad = official_lm(4), official_lm(4).pad_id
    assert align(lm, [5, 6, 7]) == ([BOS, 5, 6, 7], [])
    assert align(lm, [5, 6, 7, 8, 9]) == ([BOS, 5, 6, 7], [8, 9])
    assert align(lm, [5]) == ([BOS, BOS, BOS, 5], [])
    assert align(lm, []) == ([BOS] * 4, [])
    assert align(lm, [5, 6, 7, 8], "end") == ([BOS, 5, 6, 7, 8, pad, pad, pad], [])
    assert align(lm, [5, 6, 7, 8, 9], "front") == ([BOS] * 3 + [5, 6, 7, 8, 9], [])
    assert align(official_lm(1), [5, 6]) == ([BOS, 5, 6], [])


@pytest.mark.parametrize("head", ["energy", "diffusion", "flow"])
def test_leftover_tokens_begin_the_first_chunk(official_lm, head):
    lm = official_lm(4, head=head, num_sampling_steps=None if head == "energy" else 4)
    prompt = "Once upon a time there was"
    leftover = align(lm, lm.tokenize(prompt))[1]
    assert leftover
    first = next(calm.generate(lm, prompt, pool_size=8))
    assert first.token_ids[: len(leftover)] == leftover
    assert next(calm.generate(lm, prompt, pool_size=8, alignment="front")).token_ids != first.token_ids


def test_the_start_of_the_next_text_ends_a_text(official_lm, tiny):
    """A decoder that always chooses begin-of-text: the end for an official model, a token for one trained here."""
    steps = {}
    for name, lm in (("official", official_lm(4)), ("own", tiny(4))):
        with torch.no_grad():
            decoder = lm.calm.ae_model.decoder
            decoder.expand_layer.weight.zero_()
            decoder.expand_layer.bias.copy_(decoder.expand_layer.bias[:24].repeat(4))
            decoder.lm_head_weight[BOS] = 10 * decoder.states(torch.zeros(16))[0]
        steps[name] = list(calm.generate(lm, "Once", max_new_tokens=12, temperature=1))
    assert [step.token_ids for step in steps["official"]] == [[BOS] * 4] and steps["official"][0].text == ""
    assert len(steps["own"]) == 3


def test_brier_lm_measures_at_the_chunk_boundaries_of_the_format(official_lm, tiny):
    text = "Once upon a time there was a shy fox named Mia."
    count = len(tiny(4).tokenize(text))
    for lm, before in ((tiny(4), 0), (official_lm(4), 3)):  # three tokens follow the start token
        assert calm.brier_lm(lm, [text]).positions == (count - before - 4) // 4 + 1
    seen = []
    lm = official_lm(4)
    lm.calm.transformer.embed_tokens.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0]))
    calm.brier_lm(lm, [text])
    assert seen[0].flatten()[:8].tolist() == [BOS, *lm.tokenize(text)[:7]]
