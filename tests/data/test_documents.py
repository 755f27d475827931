import gzip
import json
import lzma

import numpy as np
import pytest
import zstandard

from calm import CalmError, storyland
from calm.data import synthetic_text as assorted
from calm.data.documents import TokenFile, read_documents

LINES = [{"text": "One."}, {"text": "Two, été 🎉."}]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_json_lines_are_read_plain_and_packed(tmp_path, suffix):
    path = tmp_path / f"corpus.jsonl{suffix}"
    opener = {"": open, ".gz": gzip.open, ".xz": lzma.open, ".zst": zstandard.open}[suffix]
    with opener(path, "wt", encoding="utf-8") as out:
        out.write("\n".join(json.dumps(line) for line in LINES) + "\n\n")
    assert list(read_documents(str(path))) == [line["text"] for line in LINES]


def test_a_folder_of_text_is_read_in_order(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "a.txt").write_text("first")
    (tmp_path / "b" / "c.txt").write_text("second")
    (tmp_path / "b" / "picture.png").write_bytes(b"\x89")
    assert list(read_documents(str(tmp_path))) == ["first", "second"]


def test_storyland_and_assorted_text_are_sources():
    assert list(read_documents("storyland:5:2")) == [storyland.story(5), storyland.story(6)]
    texts = list(assorted.corpus(300, 1))
    assert texts == list(read_documents("assorted:1:300"))
    joined = "".join(texts)
    assert any("\u4e00" <= c <= "\u9fff" for c in joined) and any("\u0400" <= c <= "\u04ff" for c in joined)


def test_unreadable_sources_are_one_sentence(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"no": 1}\n')
    for source, sentence in [
        ("nowhere", "There is no text at 'nowhere'"),
        ("storyland:x", "storyland:SEED:COUNT"),
        (str(bad), "line 2: expected a JSON object with the field 'text'"),
    ]:
        with pytest.raises(CalmError, match=sentence):
            list(read_documents(source))


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


def test_rows_depend_on_seed_and_step_alone(tokens):
    first = tokens.rows(3, 4, 64, 4, seed=1)
    assert first.shape == (4, 64)
    tokens.rows(9, 4, 64, 4, seed=2)
    assert np.array_equal(first, tokens.rows(3, 4, 64, 4, seed=1))
    assert not np.array_equal(first, tokens.rows(4, 4, 64, 4, seed=1))
    assert not np.array_equal(first, tokens.rows(3, 4, 64, 4, seed=2))


def test_rows_begin_anywhere_in_a_chunk(tokens):
    rows = np.concatenate([tokens.rows(step, 8, 64, 4, seed=0) for step in range(20)])
    leading = (np.cumprod(rows == tokens.eos, axis=1)).sum(1)
    assert set(leading) == {1, 2, 3, 4}


def test_an_epoch_visits_every_story_once(tokens):
    whole = 10_000  # longer than any story: one entry point a document
    rows = tokens.rows(0, 50, whole, 1, seed=0)
    starts = {tuple(row[1:20]) for row in rows}
    assert len(starts) == len({tuple(tokens.ids[s : s + 19].tolist()) for s in tokens.starts})
