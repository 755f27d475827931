import gzip
import json
import lzma

import pytest
import zstandard

from calm import CalmError, storyland
from calm.data import synthetic_text
from calm.data.documents import read_documents

LINES = [{"text": "One."}, {"text": "Two, été 🎉."}]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".zst"])
def test_json_lines_are_read_plain_and_compressed(tmp_path, suffix):
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


def test_storyland_and_synthetic_text_are_sources():
    assert list(read_documents("storyland:5:2")) == [storyland.story(5), storyland.story(6)]
    texts = list(synthetic_text.corpus(300, 1))
    assert texts == list(read_documents("synthetic:1:300"))
    joined = "".join(texts)
    assert any("\u4e00" <= c <= "\u9fff" for c in joined) and any("\u0400" <= c <= "\u04ff" for c in joined)


def test_unreadable_sources_are_reported_in_one_sentence(tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"no": 1}\n')
    for source, sentence in [
        ("nowhere", "There is no text at 'nowhere'"),
        ("storyland:x", "storyland:SEED:COUNT"),
        (str(bad), "line 2: expected a JSON object with the field 'text'"),
    ]:
        with pytest.raises(CalmError, match=sentence):
            list(read_documents(source))
