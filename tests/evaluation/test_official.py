"""The official protocol: packed blocks, every chunk but the first, loss or perplexity beside BrierLM."""

import json
import math

import pytest
import torch

import calm
from calm import CalmError, storyland
from calm.cli import main
from calm.evaluation.brier import measure_row
from calm.evaluation.continuations import ContinuationRequest, without_pauses
from calm.evaluation.official import evaluate_official, pack
from calm.hub.saving import save

TEXTS = [text[:600] for text in storyland.stories("tests", 3)]


@pytest.fixture
def source(tmp_path) -> str:
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    return str(path)


def test_texts_follow_one_another_in_blocks(tiny):
    lm = tiny(4)
    ids = [token for text in TEXTS for token in lm.tokenize(text)]
    blocks, rest = pack(lm, TEXTS, 64)
    assert [token for block in blocks for token in block] == ids[: len(ids) - rest] and rest == len(ids) % 64
    assert {len(block) for block in blocks} == {64}


@pytest.mark.parametrize("head", ["energy", "flow"])
def test_a_calm_is_measured_at_every_chunk_but_the_first(tiny, source, head):
    lm, read = tiny(4, head=head), []
    hook = lm.calm.transformer.embed_tokens.register_forward_hook(lambda module, inputs, output: read.append(inputs[0]))
    figures = evaluate_official(lm, [source], block_size=64)
    hook.remove()
    blocks, rest = pack(lm, TEXTS, 64)
    texts = figures["texts"][source]
    assert texts["blocks"] == len(blocks) and texts["unused_tokens"] == rest and texts["count"] == len(TEXTS)
    assert texts["brier_lm"]["positions"] == len(blocks) * 15
    for ids, block in zip(read, blocks):  # no token stands in front of a block
        assert ids.flatten().tolist() == block[:60]
    assert texts[f"{head}_loss"] == evaluate_official(lm, [source], 64)["texts"][source][f"{head}_loss"] > 0


def test_a_token_by_token_model_has_a_perplexity(tiny_ar, source):
    texts = evaluate_official(tiny_ar, [source], block_size=64)["texts"][source]
    ids = torch.tensor(pack(tiny_ar, TEXTS, 64)[0])
    with torch.no_grad():
        expected = math.exp(float(tiny_ar.llama(ids, labels=ids).loss))
    assert texts["perplexity"] == pytest.approx(expected, rel=1e-4)
    assert texts["brier_lm"]["positions"] == len(ids) * 15  # the positions of a CALM with K = 4


def test_at_equal_places_both_protocols_agree(tiny, tiny_ar):
    """A block that starts as our protocol starts a text has the figures of the text."""
    for lm, start, context in ((tiny(4), [1] * 4, 4), (tiny_ar, [1], 1)):
        text = TEXTS[0][:100]
        row = measure_row(
            lm, ContinuationRequest(start + lm.tokenize(text), context, 4, 2), torch.Generator().manual_seed(0)
        )
        assert tuple(without_pauses(row).tolist()) == calm.brier_lm(lm, [text], seed=0).per_text[0]


def test_long_texts_are_measured_to_their_end(tiny, tiny_ar):
    text = " ".join(TEXTS)
    for lm, stride in ((tiny(4), 4), (tiny_ar, 4)):
        count, window = len(lm.tokenize(text)), (lm.context_length - 8) * lm.chunk_size
        assert count > 2 * window
        parts = [min(window, count - i) for i in range(0, count, window)]
        expected = sum(max(0, (part - 4) // stride + 1) for part in parts)
        assert calm.brier_lm(lm, [text]).positions == expected


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"block_size": 6}, r"A block of tiny-k4 holds 8 to 256 tokens, a multiple of 4, not 6"),
        ({"block_size": 1024}, "holds 8 to 256 tokens, a multiple of 4, not 1,024"),
        ({"samples": 1}, "at least 2 samples"),
        ({"limit": 1, "block_size": 256}, "tokens and do not fill a block of 256"),
        ({"limit": 0}, "limit must be a whole number of at least 1, not 0"),
    ],
)
def test_impossible_requests_end_in_a_sentence(tiny, source, arguments, sentence):
    with pytest.raises(CalmError, match=sentence):
        evaluate_official(tiny(4), [source], **{"block_size": 64, **arguments})


def test_the_command_measures_both_protocols(tiny, source, tmp_path, capsys):
    save(tiny(4), tmp_path / "m")
    command = ["evaluate", source, "--model", str(tmp_path / "m"), "--device", "cpu"]
    assert main([*command, "--protocol", "official", "--block-size", "64", "--autoencoder", str(tmp_path / "m")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "official protocol" in lines[0] and "blocks of 64 tokens: BrierLM" in lines[1] and "energy loss" in lines[1]
    assert main([*command, "--noise"]) == 0
    assert "bits per latent dimension" in capsys.readouterr().out
