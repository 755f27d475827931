"""Text to token ids and back, and the text of tokens that hold a part of a character.

Text never becomes a special token: only the program adds special tokens. The bytes of a token come from the
tokenizer's vocabulary, so that a character that is split over tokens is put together exactly.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING

from ..errors import CalmError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase  # the page imports this module before it loads a model

LONGEST_CHARACTER = 4
"""UTF-8 needs at most four bytes for a character, so at most four tokens hold a part of it."""
STRAY_BYTES = re.compile("[\udc80-\udcff]+")
"""Bytes that are no character, as Python's ``surrogateescape`` decodes them."""


def tokenize(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The token ids of each text, without special tokens.

    A text such as ``<|end_of_text|>`` is text like any other. Raises CalmError for a text with half of a surrogate
    pair, which UTF-8 cannot represent.
    """
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise CalmError(
                "The input must be text, and it holds half of a surrogate pair, which is no character."
            ) from error
    if not texts:
        return []
    options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
    return tokenizer(list(texts), **options)["input_ids"]


def token_bytes(tokenizer: PreTrainedTokenizerBase) -> Callable[[int], bytes]:
    """A function from a token id to the UTF-8 bytes that the token adds to a text.

    Special and unknown tokens add none. Covers byte-level tokenizers (GPT-2, Llama 3), SentencePiece with byte fallback
    (Llama 2), and others through their ``decode``, in which every token must be text of its own.
    """
    added = tokenizer.added_tokens_decoder
    convert = _converter(tokenizer)

    @cache
    def bytes_of(token_id: int) -> bytes:
        if token_id in added:
            return b"" if added[token_id].special else added[token_id].content.encode()
        token = tokenizer.convert_ids_to_tokens(token_id)
        return b"" if token is None else convert(token_id, token)

    return bytes_of


def _converter(tokenizer: PreTrainedTokenizerBase) -> Callable[[int, str], bytes]:
    """A function from a token's id and its entry in the vocabulary to its bytes."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    decoder = json.dumps(json.loads(backend.to_str())["decoder"]) if backend else ""
    if '"ByteLevel"' in decoder:
        alphabet = _byte_level_alphabet()
        return lambda _, token: bytes(alphabet[c] for c in token) if alphabet.keys() >= set(token) else token.encode()
    if '"Metaspace"' in decoder or '"ByteFallback"' in decoder:
        return lambda _, token: _byte_fallback(token)
    return lambda token_id, _: tokenizer.decode([token_id], clean_up_tokenization_spaces=False).encode()


def _byte_level_alphabet() -> dict[str, int]:
    """Character of a byte-level vocabulary -> byte: visible Latin-1 characters stand for themselves, and the other
    bytes for characters from 256 on, in order."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + n): byte for n, byte in enumerate(others)}


def _byte_fallback(token: str) -> bytes:
    """The bytes of a SentencePiece token, in which ▁ is a space and <0xF0> one byte."""
    if len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return bytes.fromhex(token[3:5])
    return token.replace("▁", " ").encode()


class TextStream:
    """The text of a growing sequence of tokens. The bytes of an incomplete character wait for the rest of it.

    Bytes that can belong to no character become U+FFFD, as in ``LanguageModel.detokenize``.
    """

    def __init__(self, bytes_of: Callable[[Iterable[int]], bytes]):
        self._bytes_of = bytes_of
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, ids: Iterable[int], ended: bool = False) -> str:
        """The text that these tokens add. ``ended`` marks the last tokens."""
        return self._decoder.decode(self._bytes_of(ids), ended)

    def preview(self, ids: Iterable[int], ended: bool = False) -> str:
        """The text that these tokens would add."""
        state = self._decoder.getstate()
        text = self.add(ids, ended)
        self._decoder.setstate(state)
        return text


def labels(pieces: Sequence[bytes]) -> list[str]:
    """A label for each piece of a text by itself. A piece is the bytes of a token or chunk.

    A character that is split over n pieces is shown in each of them with the number of the part: ``🙂 (1/2)``. Bytes
    that are no character, or one that is not complete yet, are shown in hexadecimal: ``⟨F0 9F⟩``.
    """
    with suppress(UnicodeDecodeError):
        return [piece.decode() for piece in pieces]  # nearly always: no piece holds a part of a character
    ends = list(accumulate(map(len, pieces)))
    shown = [""] * len(pieces)
    start = first = 0
    for character in b"".join(pieces).decode("utf-8", "surrogateescape"):
        end = start + (1 if STRAY_BYTES.match(character) else len(character.encode()))
        while ends[first] <= start:
            first += 1
        last = first
        while ends[last] < end:
            last += 1
        parts = [i for i in range(first, last + 1) if pieces[i]]
        for number, i in enumerate(parts, 1):
            shown[i] += character if len(parts) == 1 else f"{character} ({number}/{len(parts)})"
        start = end
    return [STRAY_BYTES.sub(_hexadecimal, text) for text in shown]


def replaced_labels(pieces: Sequence[bytes], start: int, stop: int, replacement: Sequence[bytes]) -> list[str]:
    """The ``labels`` that other pieces have in place of ``pieces[start:stop]``."""
    before, after = pieces[max(0, start - LONGEST_CHARACTER) : start], pieces[stop : stop + LONGEST_CHARACTER]
    return labels([*before, *replacement, *after])[len(before) : len(before) + len(replacement)]


def _hexadecimal(stray: re.Match[str]) -> str:
    return f"⟨{stray[0].encode('utf-8', 'surrogateescape').hex(' ').upper()}⟩"
