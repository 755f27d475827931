"""Reads text files: compressed or plain, in any common encoding, with clear errors for damaged ones."""

import codecs
import gzip
import io
import json
import logging
import lzma
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import CalmError

logger = logging.getLogger(__name__)

JSON_LINES = (".jsonl", ".ndjson", ".json")
COMPRESSED = (".gz", ".xz", ".zst")
PLAIN = (".txt", ".text", ".md", ".log")

MAX_LINE = 2**26
"""The longest line of a JSON Lines file, in bytes. Such a line holds one document."""
BLOCK = 2**20  # bytes of a file read at a time
WINDOW = 2**16
"""An encoding is guessed from this many bytes before and after the first one that is not UTF-8."""

BOMS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32-le",  # before UTF-16, whose mark is a prefix of this one
    codecs.BOM_UTF32_BE: "utf-32-be",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
LEGACY = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "cp932", "euc_jp", "gb18030",
    "big5", "cp949",
)  # fmt: skip
"""The encodings that a text without a byte order mark may have if it is neither UTF-8 nor UTF-16."""

DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""The exceptions of reading a damaged file."""


def read_text(path: str | Path, limit: int | None = None, name: str = "") -> str:
    """The text of a file, compressed or plain, with line breaks as ``\\n`` and without a byte order mark.

    The encoding is UTF-8, or the one that a byte order mark names, or UTF-16, or else the most plausible of common
    older ones, and a warning of the logger names that guess. A character that is cut off at the end of a UTF-8 file is
    left out. ``name`` is the file's name in messages. Raises CalmError, with the line where there is one, for a file
    that is missing, unreadable, damaged, no text, or longer than ``limit`` characters.
    """
    name = name or str(path)
    blocks: list[bytes] = []
    most = 4 * (limit or 0) + 4  # no encoding has more than 4 bytes a character; a byte order mark has up to 4
    with _open(Path(path), name) as file:
        try:
            while block := file.read(BLOCK):
                blocks.append(block)
                if limit is not None and sum(map(len, blocks)) > most:
                    raise _too_long(name, limit)
        except DAMAGED as error:
            line = 1 + sum(block.count(b"\n") for block in blocks)
            raise _unreadable(name, error, line) from error
    text = decode(b"".join(blocks), name)
    if limit is not None and len(text) > limit:
        raise _too_long(name, limit)
    return text


def _too_long(name: str, limit: int) -> CalmError:
    return CalmError(f"{name} is longer than {limit:,} characters; shorten it.")


def read_file(path: Path, field: str) -> Iterator[str]:
    """The documents of a file: one for each line of a JSON Lines file, else one. Documents without text are left out.

    ``field`` names the text in a line of JSON. Raises CalmError with file and line as ``read_text`` does, after the
    documents before the fault.
    """
    texts = _json_lines(path, field) if _suffix(path)[0] in JSON_LINES else iter([read_text(path)])
    yield from (text for text in texts if text.strip())


def is_text_file(path: Path) -> bool:
    """Whether the suffix of a file, in upper or lower case, names plain text or JSON Lines, compressed or not."""
    suffix, is_compressed = _suffix(path)
    return suffix in (*PLAIN, *JSON_LINES) or (is_compressed and not suffix)


def _suffix(path: Path) -> tuple[str, bool]:
    """The suffix of a file in lower case, that of its content if it is compressed, and whether it is compressed."""
    is_compressed = path.suffix.lower() in COMPRESSED
    return (path.with_suffix("") if is_compressed else path).suffix.lower(), is_compressed


def split_documents(text: str) -> list[str]:
    """The documents between blank lines, which may hold spaces. Line breaks become ``\\n``."""
    return [part for part in re.split(r"\n\s*\n", _with_newlines(text)) if part.strip()]


def decode(data: bytes, name: str) -> str:
    """Bytes as text, as ``read_text`` describes. Raises CalmError if they are no text."""
    for mark, encoding in BOMS.items():
        if data.startswith(mark):
            return _decode(data[len(mark) :], encoding, name)
    unmarked = _utf_16(data)
    if unmarked and b"\0\0\0" not in data:  # UTF-16 text has at most two zero bytes in a row
        return _decode(data, unmarked, name)
    if b"\0" in data:
        raise CalmError(f"{name} is not a text file: it holds zero bytes.")
    try:
        return _with_newlines(data.decode())
    except UnicodeDecodeError as error:
        start, is_cut = error.start, error.reason == "unexpected end of data"
    if is_cut and not data[:start].isascii():  # other characters show that it is UTF-8
        return _with_newlines(data[:start].decode())
    guess = _guess(data, start)
    if guess is None:
        line = 1 + data.count(b"\n", 0, start)
        raise CalmError(f"{name}, line {line}: byte {data[start]:#04x} is not UTF-8; save the file as UTF-8.")
    logger.warning("%s is not UTF-8; it is read as %s.", name, guess)
    return _decode(data, guess, name)


def _decode(data: bytes, encoding: str, name: str) -> str:
    try:
        return _with_newlines(data.decode(encoding))
    except UnicodeDecodeError as error:
        if error.reason in ("truncated data", "unexpected end of data"):  # the last character is cut off
            return _with_newlines(data[: error.start].decode(encoding))
        line = 1 + data[: error.start].decode(encoding).count("\n")
        raise CalmError(f"{name}, line {line}: this is not text in {encoding}; save the file as UTF-8.") from error


def _with_newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _utf_16(data: bytes) -> str | None:
    """UTF-16 without a byte order mark, in which most characters of a European text have one byte that is zero."""
    even, odd = data[:4096:2], data[1:4096:2]
    zeros = [half.count(0) / max(1, len(half)) for half in (even, odd)]
    for encoding, (text, empty) in {"utf-16-le": zeros, "utf-16-be": zeros[::-1]}.items():
        if empty > 0.4 and text < 0.05:
            return encoding
    return None


def _guess(data: bytes, start: int) -> str | None:
    """The most plausible of the ``LEGACY`` encodings, judged by the text around ``start``; None if there is none.

    Many of them fit a Western text equally well. The most common of these is cp1252, which has all of Latin-1.
    """
    from charset_normalizer import from_bytes

    earliest, latest = max(0, start - WINDOW), start + WINDOW
    first = data.find(b"\n", earliest, start) + 1 if earliest else 0
    last = data.rfind(b"\n", start, latest)
    matches = from_bytes(data[max(earliest, first) : last if last > 0 else latest], cp_isolation=list(LEGACY))
    best = matches.best()
    if best is None:
        return None
    equal = [match for match in matches if (match.chaos, match.coherence) == (best.chaos, best.coherence)]
    return "cp1252" if any("cp1252" in match.could_be_from_charset for match in equal) else best.encoding


def _json_lines(path: Path, field: str) -> Iterator[str]:
    """The texts in the lines of a JSON Lines file."""
    with _open(path, str(path)) as compressed:
        file, number = compressed, 0
        while True:
            number += 1
            try:
                if number == 1 and _is_wide(compressed.peek(4096)):  # type: ignore[attr-defined]
                    file = io.BytesIO(decode(compressed.read(), str(path)).encode())
                line = file.readline(MAX_LINE + 1)
            except DAMAGED as error:
                raise _unreadable(str(path), error, number) from error
            if not line:
                return
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if line.strip():
                yield _field(line, field, f"{path}, line {number}")


def _is_wide(start: bytes) -> bool:
    """Whether a file with these first bytes is UTF-16 or UTF-32, in which a line break has more than one byte."""
    return _utf_16(start) is not None or start.startswith(
        (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
    )


def _field(line: bytes, field: str, source: str) -> str:
    """The text in a line of JSON. ``source`` names the line in messages."""
    if len(line) > MAX_LINE:
        raise CalmError(f"{source}: a line may have at most {MAX_LINE:,} bytes; split the document.")
    try:
        text = json.loads(line.decode())[field]
        text.encode()
    except UnicodeDecodeError as error:
        raise CalmError(f"{source}: byte {line[error.start]:#04x} is not UTF-8; save the file as UTF-8.") from error
    except UnicodeEncodeError as error:
        raise CalmError(f"{source}: the text holds half of a surrogate pair, which is no character.") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise CalmError(f"{source}: expected a JSON object with the field {field!r}, which must be a text.") from error
    return text


def _unreadable(name: str, error: Exception, line: int | None = None) -> CalmError:
    if isinstance(error, OSError) and error.strerror:
        return CalmError(f"{name} cannot be read: {error.strerror}.")
    source = f"{name}, line {line}" if line else name
    return CalmError(f"{source}: the compressed file is damaged or cut off here; download it again.")


@contextmanager
def _open(path: Path, name: str) -> Iterator[io.BufferedIOBase]:
    """The bytes of a file, decompressed if they are gzip, xz or zstd data. The name of the file is ignored."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            start = file.peek(6)
        except OSError as error:
            raise _unreadable(name, error) from error
        if start.startswith(b"\x1f\x8b"):
            yield stack.enter_context(gzip.open(file))
        elif start.startswith(b"\xfd7zXZ\0"):
            yield stack.enter_context(lzma.open(file))
        elif start.startswith(b"\x28\xb5\x2f\xfd"):
            yield stack.enter_context(io.BufferedReader(_ZstdFile(file)))
        else:
            yield file


class _ZstdFile(io.RawIOBase):
    """The content of a zstd file of any number of frames. Raises EOFError if the last one is cut off, which the
    reader of ``zstandard`` does not notice."""

    def __init__(self, file: BinaryIO):
        import zstandard

        self._file, self._frames, self._error = file, zstandard.ZstdDecompressor(), zstandard.ZstdError
        self._frame: Any = None
        self._compressed = self._content = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._content:
            compressed = self._compressed or self._file.read(2**14)
            if not compressed and self._frame:
                raise EOFError
            if not compressed:
                return 0
            self._frame, self._compressed = self._frame or self._frames.decompressobj(), b""
            try:
                self._content = self._frame.decompress(compressed)
            except self._error as error:
                raise EOFError from error
            if self._frame.eof:
                self._frame, self._compressed = None, self._frame.unused_data
        size = min(len(buffer), len(self._content))
        buffer[:size], self._content = self._content[:size], self._content[size:]
        return size
