import copy
import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from calm import CalmError, storyland
from calm.modeling.losses import MASKED
from calm.training import token_files
from calm.training.token_files import TokenFile, _entries
from calm.training.tokenizer import TokenizerSettings, train


@pytest.fixture
def tokens(tmp_path, tokenizer) -> TokenFile:
    return TokenFile.build(tmp_path / "tokens", ["storyland:0:50"], tokenizer)


def test_tokens_are_stored_once_and_in_order(tokens, tokenizer, tmp_path):
    assert len(tokens.starts) == 50
    for i, start in enumerate(tokens.starts[:5]):
        ids = tokens.ids[start : tokens.starts[i + 1]].tolist()
        assert ids[-1] == tokens.eos and tokenizer.decode(ids[:-1]) == storyland.story(i)
    again = TokenFile.build(tmp_path / "tokens", ["storyland:0:50"], tokenizer)
    assert np.array_equal(again.ids, tokens.ids)
    with pytest.raises(CalmError, match="tokens of other sources"):
        TokenFile.build(tmp_path / "tokens", ["storyland:0:51"], tokenizer)


def test_special_tokens_in_a_corpus_are_text(tokenizer, tmp_path):
    text = "One<|end_of_text|>two [PAD] three."
    (tmp_path / "corpus.txt").write_text(text)
    tokens = TokenFile.build(tmp_path / "tokens", [str(tmp_path / "corpus.txt")], tokenizer)
    assert len(tokens.starts) == 1 and (tokens.ids == tokens.eos).sum() == 1
    assert tokenizer.decode(tokens.ids[:-1]) == text


def test_rows_depend_on_seed_and_step_alone(tokens):
    first = tokens.rows(3, 4, 64, 4, seed=1)
    assert first.shape == (4, 64)
    tokens.rows(9, 4, 64, 4, seed=2)
    assert np.array_equal(first, tokens.rows(3, 4, 64, 4, seed=1))
    assert not np.array_equal(first, tokens.rows(4, 4, 64, 4, seed=1))
    assert not np.array_equal(first, tokens.rows(3, 4, 64, 4, seed=2))


def test_rows_start_anywhere_in_a_chunk(tokens):
    rows = np.concatenate([tokens.rows(step, 8, 64, 4, seed=0) for step in range(20)])
    leading = (np.cumprod(rows == tokens.eos, axis=1)).sum(1)
    assert set(leading) == {1, 2, 3, 4}


def test_an_epoch_has_every_story_once(tokens):
    whole = 10_000  # longer than any story: one entry point a document
    rows = tokens.rows(0, 50, whole, 1, seed=0)
    starts = {tuple(row[1:20]) for row in rows}
    assert len(starts) == len({tuple(tokens.ids[s : s + 19].tolist()) for s in tokens.starts})


def test_prompts_are_read_but_are_no_targets(tokenizer, tmp_path):
    sources = ["prompted:0:20", "storyland:0:5"]
    marked = TokenFile.build(tmp_path / "marked", sources, tokenizer, targets_after="thunder.\n")
    plain = TokenFile.build(tmp_path / "plain", sources, tokenizer)
    masked = TokenFile.build(tmp_path / "masked", sources, tokenizer, targets_after="\n")
    assert (marked.targets >= marked.starts).all() and np.array_equal(masked.ids, plain.ids)
    rows, labels = masked.rows(2, 8, 256, 4, seed=1).swapaxes(0, 1)
    assert np.array_equal(rows, plain.rows(2, 8, 256, 4, seed=1))
    hidden = labels == MASKED
    assert hidden.any() and np.array_equal(rows[~hidden], labels[~hidden])
    for number, start in enumerate(masked.starts):
        text = tokenizer.decode(masked.ids[start : masked.targets[number]])
        whole = tokenizer.decode(masked.ids[start : [*masked.starts, len(masked.ids)][number + 1] - 1])
        assert text == (whole[: whole.index("\n") + 1] if "\n" in whole else "")
    with pytest.raises(CalmError, match="tokens of other sources"):
        TokenFile.build(tmp_path / "plain", sources, tokenizer, targets_after="\n")
    with pytest.raises(CalmError, match="tokens of other sources"):
        TokenFile.build(tmp_path / "masked", sources, tokenizer)


@pytest.mark.parametrize("chunk", [1, 4])
def test_all_tokens_of_a_long_document_are_in_a_row(chunk, tokenizer, tmp_path):
    (tmp_path / "long.txt").write_text(" ".join(storyland.corpus(3, 0)))
    (tmp_path / "short.txt").write_text("Mia lost her kite.")
    tokens = TokenFile.build(tmp_path / "tokens", [str(tmp_path / f"{n}.txt") for n in ("long", "short")], tokenizer)
    length = 4 * (len(tokens.ids) // 6)  # the document has one and a half rows
    entries = _entries(tokens, length - chunk - 1)
    assert tokens.eos not in tokens.ids[entries]  # a row has no more than a chunk of end-of-text tokens in front
    read = {i for entry in entries for i in range(entry, min(entry + length - chunk, len(tokens.ids)))}
    assert read == set(range(len(tokens.ids)))


def test_the_tokens_of_another_tokenizer_are_refused(tokens, tokenizer, tmp_path):
    texts = tmp_path / "other.txt"
    texts.write_text("\n".join(storyland.corpus(60, 100)))
    settings = TokenizerSettings(out=str(tmp_path / "other"), sources=[str(texts)], vocab_size=len(tokenizer))
    other = AutoTokenizer.from_pretrained(train(settings))
    assert len(other) == len(tokenizer) and other.get_vocab() != tokenizer.get_vocab()
    with pytest.raises(CalmError, match="or of another tokenizer"):
        TokenFile.build(tmp_path / "tokens", ["storyland:0:50"], other)
    meta = json.loads((tmp_path / "tokens" / "meta.json").read_text())
    meta.pop("tokenizer")  # a file of an earlier version
    (tmp_path / "tokens" / "meta.json").write_text(json.dumps(meta))
    assert len(TokenFile.build(tmp_path / "tokens", ["storyland:0:50"], tokenizer).starts) == 50


@pytest.mark.parametrize("chunk", [3, 4])
def test_a_file_too_short_for_a_chunk_is_named(tokenizer, tmp_path, chunk):
    (tmp_path / "text.txt").write_text("a b")
    tokens = TokenFile.build(tmp_path / "short", [str(tmp_path / "text.txt")], tokenizer)
    assert len(tokens.ids) == 3
    with pytest.raises(CalmError, match=f"short holds 3 tokens and chunks of {chunk} need more"):
        tokens.chunks(np.random.default_rng(0), 1, chunk)
    assert tokens.chunks(np.random.default_rng(0), 5, 2).shape == (5, 2)


def test_the_vocabulary_is_read_once_for_all_files_of_a_tokenizer(tokenizer, tmp_path, monkeypatch):
    reads = []
    vocabulary = type(tokenizer).get_vocab
    fresh = copy.deepcopy(tokenizer)
    monkeypatch.setattr(token_files, "token_bytes", lambda _: str.encode)
    monkeypatch.setattr(type(tokenizer), "get_vocab", lambda self: reads.append(self) or vocabulary(self))
    for name in ("one", "two", "one"):
        TokenFile.build(tmp_path / name, ["storyland:0:2"], fresh)
    assert len(reads) == 1
