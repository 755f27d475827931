import random

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from calm import CalmError, storyland
from calm.hub.tokenization import TextStream, labels, replaced_labels, token_bytes, tokenize

TYPED = [
    "<|end_of_text|>Hello [PAD] there",
    "<|begin_of_text|>",
    "[PAD]",
    "a<|end_of_text|><|end_of_text|>\n\n[PAD]b",
    "<|end_of_text|",
]


@pytest.mark.parametrize("text", TYPED)
def test_typed_special_tokens_are_text(tokenizer, tiny, text):
    ids = tiny().tokenize(text)
    assert not set(ids) & set(tokenizer.all_special_ids)
    assert tiny().detokenize(ids) == text
    assert tokenize(tokenizer, [text, "", text]) == [ids, [], ids]


def test_ordinary_text_has_the_same_tokens_as_by_the_tokenizer(tokenizer):
    texts = [*storyland.corpus(50, 0), "naïve café, 日本語 🙂\x00\u202e", " [ ] <| |> ", ""]
    assert tokenize(tokenizer, texts) == tokenizer(texts, add_special_tokens=False)["input_ids"]


def test_half_a_surrogate_pair_is_reported_in_one_sentence(tiny):
    with pytest.raises(CalmError, match="half of a surrogate pair"):
        tiny().tokenize("a\ud83d")


def test_a_stream_gives_the_text_of_any_tokens(tiny):
    lm, rng = tiny(), random.Random(0)
    special = set(lm.tokenizer.all_special_ids)
    for _ in range(2000):
        ids = [rng.randrange(len(lm.tokenizer)) for _ in range(rng.randrange(12))]
        stream = lm.text_stream()
        assert "".join(stream.add([i]) for i in ids) + stream.add([], ended=True) == lm.detokenize(ids)
        assert all(lm.token_bytes([i]) == b"" for i in special)


def test_a_stream_holds_back_an_incomplete_character(tiny):
    lm = tiny()
    ids = lm.tokenize("🙂")
    stream = lm.text_stream()
    assert len(ids) == 4 and [stream.add([i]) for i in ids[:-1]] == ["", "", ""]
    assert stream.preview(ids[-1:]) == "🙂" and stream.preview(lm.tokenize("a")) == "\ufffda"
    assert stream.add(ids[-1:]) == "🙂"
    assert stream.add(lm.tokenize("\ufffd")) == "\ufffd"  # a character like any other
    assert stream.add(ids[:2], ended=True) == "\ufffd"


def test_labels_show_which_part_of_a_character_a_piece_holds():
    smile = "🙂".encode()
    assert labels([b"Hi " + smile[:2], smile[2:] + b" you"]) == ["Hi 🙂 (1/2)", "🙂 (2/2) you"]
    assert labels([bytes([byte]) for byte in smile]) == ["🙂 (1/4)", "🙂 (2/4)", "🙂 (3/4)", "🙂 (4/4)"]
    assert labels([b"a", b"", smile[:1], b"", smile[1:]]) == ["a", "", "🙂 (1/2)", "", "🙂 (2/2)"]
    assert labels([smile, "é".encode() * 2]) == ["🙂", "éé"]
    assert labels([b"a" + smile[:2], b"b\xff"]) == ["a⟨F0 9F⟩", "b⟨FF⟩"]
    assert labels([]) == [] and labels([b""]) == [""]


def test_replaced_labels_stand_among_the_other_pieces():
    smile = "🙂".encode()
    pieces = [b"a", smile[:2], smile[2:], b"b"]
    assert replaced_labels(pieces, 1, 2, [smile[:2]]) == ["🙂 (1/2)"]
    assert replaced_labels(pieces, 2, 3, [b"x"]) == ["x"]
    assert replaced_labels(pieces, 1, 3, [b"x", smile[2:]]) == ["x", "⟨99 82⟩"]
    assert replaced_labels(pieces[:2], 2, 2, [smile[2:]]) == ["🙂 (2/2)"]


def test_tokenizers_with_byte_fallback_keep_spaces_and_bytes():
    vocabulary = {"<unk>": 0, "▁Hi": 1, "▁": 2, "you": 3, **{f"<0x{byte:02X}>": 4 + byte for byte in range(256)}}
    backend = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    bytes_of = token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>"))
    stream = TextStream(lambda ids: b"".join(map(bytes_of, ids)))
    ids = [1, 2, *(4 + byte for byte in "🙂".encode()), 2, 3]
    assert [stream.add([i]) for i in ids] == [" Hi", " ", "", "", "", "🙂", " ", "you"]


def test_other_tokenizers_decode_each_token():
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "hi": 1, "été": 2}, unk_token="[UNK]"))
    bytes_of = token_bytes(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]"))
    assert [bytes_of(i) for i in (1, 2, 0, 99)] == [b"hi", "été".encode(), b"", b""]
