import codecs
import gzip
import json
import logging
import lzma

import pytest
import zstandard

from calm import CalmError
from calm.data import text_files
from calm.data.documents import read_documents
from calm.data.text_files import decode, read_text, split_documents

TEXT = "Où est-elle ? “Ici”, dit Zoé.\n"
PACKERS = {"gz": gzip.compress, "xz": lzma.compress, "zst": zstandard.ZstdCompressor().compress}


def documents(path) -> list[str]:
    return list(read_documents(str(path)))


def until_error(path) -> tuple[list[str], str]:
    """The documents before the error, and its message."""
    texts: list[str] = []
    with pytest.raises(CalmError) as raised:
        texts.extend(text for text in read_documents(str(path)) if texts.append(text))
    return texts, str(raised.value)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_a_text_of_any_common_encoding_is_read(tmp_path, encoding):
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode(encoding))
    assert read_text(path) == TEXT and documents(path) == [TEXT]


@pytest.mark.parametrize(
    "encoding, text",
    [
        ("latin-1", "café"),
        ("latin-1", "Le café était très agréable, où est-elle ? Ça va bien."),
        ("cp1250", "Zażółć gęślą jaźń. Wszystko będzie dobrze, powiedział chłopiec, który był mądry."),
        ("cp1251", "Привет, как дела? Это проверка текста на русском языке."),
        ("cp932", "日本語のテキストです。これはテストです。"),
        ("gb18030", "这是一个中文文本的测试，看看能不能识别。"),
        ("cp949", "안녕하세요. 이것은 한국어 텍스트입니다."),
    ],
)
def test_an_older_encoding_is_guessed_and_named(tmp_path, caplog, encoding, text):
    path = tmp_path / "text.txt"
    path.write_bytes(text.encode(encoding))
    with caplog.at_level(logging.WARNING):
        assert read_text(path) == text
    assert "is not UTF-8; it is read as" in caplog.text


def test_a_guess_looks_at_the_text_around_the_first_byte_that_is_not_utf_8():
    text = "A plain line of text.\n" * 20_000 + "Où est-elle ? Ça va bien.\n" + "Another line.\n" * 20_000
    assert decode(text.encode("cp1252"), "text") == text
    assert decode(text.replace("\n", " ").encode("cp1252"), "text") == text.replace("\n", " ")


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_character_that_is_cut_off_at_the_end_is_left_out(mark):
    assert decode(mark + "Zoé 🙂".encode()[:-2], "text") == "Zoé "
    assert decode("Zoé 🙂".encode("utf-16")[:-1], "text") == "Zoé "
    assert decode("Zoé 🙂".encode("utf-16")[:-2], "text") == "Zoé "


def test_line_breaks_become_one_kind(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"one\r\ntwo\rthree\n\r\nfour")
    assert read_text(path) == "one\ntwo\nthree\n\nfour"


def test_blank_lines_separate_documents_even_with_spaces_in_them():
    text = "one\r\nmore\r\n \r\n\t\r\n  two\n\n\n\nthree\n   \n"
    assert split_documents(text) == ["one\nmore", "  two", "three"]
    assert split_documents("") == split_documents(" \n\n ") == []
    assert split_documents("a" + "\n " * 200_000 + "b") == ["a", " b"]


@pytest.mark.parametrize("name", ["text.TXT", "text.log", "text.md", "text.Text", "text.gz", "text.Txt.GZ"])
def test_text_files_of_any_usual_name_are_found_in_a_folder(tmp_path, name):
    (tmp_path / name).write_bytes(gzip.compress(TEXT.encode()) if name.lower().endswith("gz") else TEXT.encode())
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "picture.png.gz").write_bytes(gzip.compress(b"\x89PNG"))
    (tmp_path / "folder.txt").mkdir()
    assert documents(tmp_path) == [TEXT]


def test_hidden_files_and_folders_are_left_out(tmp_path):
    for path in (".git/a.txt", "b/.cache/c.txt", "b/._d.txt"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("hidden")
    hidden = tmp_path / ".home"
    hidden.mkdir()
    (hidden / "a.txt").write_text("shown")
    assert documents(tmp_path) == [] and documents(hidden) == ["shown"]


@pytest.mark.parametrize("content", ["", "\n", " \r\n\t", "\ufeff"])
@pytest.mark.parametrize("suffix", ["txt", "jsonl"])
def test_a_file_without_text_has_no_documents(tmp_path, content, suffix):
    path = tmp_path / f"empty.{suffix}"
    path.write_text(content, encoding="utf-8")
    assert documents(path) == []


@pytest.mark.parametrize("packer", PACKERS)
def test_compressed_files_are_recognised_by_their_content(tmp_path, packer):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in ("one", "two"))
    for name in (f"corpus.jsonl.{packer}", "corpus.jsonl", f"corpus.JSONL.{packer.upper()}"):
        (tmp_path / name).write_bytes(PACKERS[packer](lines.encode()))
        assert documents(tmp_path / name) == ["one", "two"]
    plain = tmp_path / f"plain.txt.{packer}"  # as a browser saves a file that the server has decompressed
    plain.write_text(TEXT, encoding="utf-8")
    assert documents(plain) == [TEXT]


@pytest.mark.parametrize("packer", PACKERS)
def test_concatenated_compressed_parts_are_one_file(tmp_path, packer):
    path = tmp_path / f"text.txt.{packer}"
    path.write_bytes(b"".join(map(PACKERS[packer], (b"one\n", b"two\n"))))
    assert documents(path) == ["one\ntwo\n"]


@pytest.mark.parametrize("packer", PACKERS)
def test_a_cut_compressed_file_gives_the_documents_before_the_cut_and_the_line(tmp_path, packer):
    texts = [f"{number} {hash((number, packer))}" for number in range(20_000)]
    compressed = PACKERS[packer]("".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    path = tmp_path / f"corpus.jsonl.{packer}"
    path.write_bytes(compressed[: len(compressed) // 2])
    texts_read, message = until_error(path)
    assert texts_read == texts[: len(texts_read)] and len(texts_read) > 1000
    assert f"{path}, line {len(texts_read) + 1}: " in message and "cut off" in message
    plain = tmp_path / f"text.txt.{packer}"
    plain.write_bytes(compressed[:-3])
    assert until_error(plain)[0] == [] and "text.txt." in until_error(plain)[1]


@pytest.mark.parametrize("packer", PACKERS)
def test_a_damaged_compressed_file_is_reported_in_one_sentence(tmp_path, packer):
    compressed = PACKERS[packer](json.dumps({"text": "one " * 1000}).encode() * 100)
    path = tmp_path / f"corpus.jsonl.{packer}"
    path.write_bytes(compressed[:12] + bytes(20) + compressed[32:])
    assert until_error(path)[1].startswith(f"{path}, line 1: ")


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("null", "JSON object with the field 'text', which must be a text"),
        ("5", "JSON object with the field"),
        ("[1, 2]", "JSON object with the field"),
        ('"text"', "JSON object with the field"),
        ("{}", "JSON object with the field"),
        ('{"text": null}', "JSON object with the field"),
        ('{"text": 5}', "JSON object with the field"),
        ('{"text": ["a"]}', "JSON object with the field"),
        ('{"text": "a"', "JSON object with the field"),
        ("9" * 5000, "JSON object with the field"),
        ("[" * 100_000, "JSON object with the field"),
        ('{"text": "\\ud83d"}', "half of a surrogate pair"),
    ],
)
def test_a_bad_line_of_json_is_named_after_the_lines_before_it(tmp_path, line, sentence):
    path = tmp_path / "corpus.jsonl"
    path.write_text(f'{{"text": "one"}}\n\n{line}\n{{"text": "two"}}\n')
    texts_read, message = until_error(path)
    assert texts_read == ["one"]
    assert message.startswith(f"{path}, line 3: ") and sentence in message


def test_a_line_of_json_that_is_not_utf_8_is_named(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes('{"text": "one"}\n{"text": "Zoé"}\n'.encode("cp1252"))
    assert until_error(path) == (
        ["one"], f"{path}, line 2: byte 0xe9 is not UTF-8; save the file as UTF-8."
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_json_lines_of_other_encodings_are_read(tmp_path, encoding):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes('{"text": "one"}\r\n{"text": "Zoé"}\r\n'.encode(encoding))
    assert documents(path) == ["one", "Zoé"]


def test_a_line_longer_than_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "MAX_LINE", 1000)
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "one"}\n' + json.dumps({"text": "x" * 1000}))
    texts_read, message = until_error(path)
    assert texts_read == ["one"] and message.startswith(f"{path}, line 2: a line may have at most 1,000 bytes")


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" + bytes(range(256)), bytes(1000), bytes(range(128, 256)) * 9])
def test_a_file_without_text_is_reported_in_one_sentence(tmp_path, content):
    path = tmp_path / "picture.txt"
    path.write_bytes(content)
    texts_read, message = until_error(path)
    assert texts_read == [] and message.startswith(str(path)) and message.count("\n") == 0


def test_missing_and_long_files_are_reported_in_one_sentence(tmp_path):
    path = tmp_path / "text.txt"
    with pytest.raises(CalmError, match=r"text\.txt cannot be read: No such file"):
        read_text(path)
    with pytest.raises(CalmError, match="upload cannot be read"):
        read_text(tmp_path, name="upload")
    path.write_text("é" * 100, encoding="utf-8")
    assert len(read_text(path, limit=100)) == 100
    with pytest.raises(CalmError, match="longer than 99 characters"):
        read_text(path, limit=99)
    path.write_bytes(gzip.compress(bytes(50_000_000)))  # much larger than its compressed file
    with pytest.raises(CalmError, match="upload is longer than 100 characters"):
        read_text(path, limit=100, name="upload")
    for source in ("a text and no file " * 100, "nul\0byte"):
        with pytest.raises(CalmError, match="There is no text at"):
            list(read_documents(source))
