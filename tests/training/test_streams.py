from collections import Counter

import numpy as np
import pytest

from calm import CalmError, storyland
from calm.storyland.tokens import CHOICE_UNITS, TokenLanguage, inverse_transform
from calm.training import streams as stream
from calm.training.streams import Blocks, Stream

SOURCES = ["storyland:7:30", "prompted:100:11"]
LENGTH, CHUNK = 512, 4


@pytest.fixture
def make(tokenizer, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 16)
    row = LENGTH, CHUNK, 3
    return lambda workers=1, sources=SOURCES, *further: Stream(Blocks(sources, tokenizer, *row, *further), workers)


def first_document(row: np.ndarray, tokenizer) -> str:
    begin = int(np.argmax(row != tokenizer.eos_token_id))
    assert 1 <= begin <= CHUNK
    document = row[begin:]
    return tokenizer.decode(document[: int(np.argmax(document == tokenizer.eos_token_id))])


def test_an_epoch_has_every_document_once_and_mixes_the_sources(make, tokenizer):
    stream = make(workers=2)
    rows = np.concatenate([stream.rows(step, 7) for step in range(12)])  # 84 rows, two epochs and two rows
    assert rows.shape == (84, LENGTH) and rows.dtype == np.int64
    documents = [first_document(row, tokenizer) for row in rows]
    expected = sorted([*storyland.corpus(30, 7), *storyland.prompted_stories(11, 100)])
    assert sorted(documents[:41]) == sorted(documents[41:82]) == expected
    assert documents[:41] != documents[41:82]
    prompted = set(storyland.prompted_stories(11, 100))
    assert any(text in prompted for text in documents[:13]) and any(text not in prompted for text in documents[:13])


def test_a_row_continues_with_the_documents_that_follow(make, tokenizer):
    rows = make().rows(0, 12)  # within one block
    documents = [first_document(row, tokenizer) for row in rows]
    for row, following in zip(rows[:-1], documents[1:]):
        text = tokenizer.decode(row, skip_special_tokens=True)
        assert len(text) > 600 and following[:40] in text


def test_a_stride_skips_documents_between_rows(make, tokenizer):
    every, third = make(), make(1, SOURCES, 3)
    documents = [first_document(row, tokenizer) for row in every.rows(0, 41)]
    strided = [first_document(row, tokenizer) for row in third.rows(0, 15)]
    blocks = [documents[:13], documents[13:27], documents[27:]]  # each block starts a row with its first document
    assert strided == [text for block in blocks for text in block[::3]]


def test_a_batch_depends_on_its_number_alone(make):
    straight = make()
    batches = [straight.rows(step, 5) for step in range(20)]
    assert np.array_equal(make(workers=2).rows(17, 5), batches[17])  # as in a resumed run
    assert np.array_equal(straight.rows(2, 5), batches[2])
    assert np.array_equal(straight.rows(0, 100), np.concatenate(batches))  # over several blocks
    assert not np.array_equal(batches[0], batches[1])


def test_sources_without_seeds_are_refused(make):
    for source, message in (
        ("synthetic:1:9", "cannot be generated"),
        ("storyland:1", "SEED:COUNT"),
        ("prompted:0:0", "no text"),
    ):
        with pytest.raises(CalmError, match=message):
            make(sources=[source])


def test_continuations_stand_behind_the_rows(make, tokenizer):
    plain, rows = make().rows(0, 14), make(1, SOURCES, 1, 6).rows(0, 14)  # over two blocks; a block ends in padding
    assert rows.shape == (14, 7, LENGTH) and np.array_equal(rows[:, 0], plain)
    assert (rows[:, 1:, :CHUNK] == plain[:, None, :CHUNK]).all()
    language, row = TokenLanguage(tokenizer), plain[0]
    begin = int(np.argmax(row != tokenizer.eos_token_id))
    context = language.start()
    for token in row[begin:CHUNK]:
        context = language.after(context, token)
    allowed = language.chunks(context, CHUNK)
    drawn = Counter(map(tuple, rows[0, 1:, CHUNK : 2 * CHUNK].tolist()))
    assert drawn.keys() <= allowed.keys() and len(drawn) > 1
    with pytest.raises(CalmError, match="primer:1:2"):
        make(1, ["primer:1:2"], 1, 6)


def test_the_numbers_that_chose_the_continuations_stand_behind_them(make, tokenizer):
    plain, rows = make().rows(0, 5), make(1, SOURCES, 1, 3, True).rows(0, 5)
    assert rows.shape == (5, 7, LENGTH) and np.array_equal(rows[:, 0], plain)
    language, row = TokenLanguage(tokenizer), plain[0]
    context = language.start()
    for token in row[int(np.argmax(row != tokenizer.eos_token_id)) : CHUNK]:
        context = language.after(context, token)
    likely = {chunk: p for chunk, (p, _) in language.chunks(context, CHUNK).items()}
    first = slice(CHUNK, 2 * CHUNK)
    for chunk, numbers in zip(rows[0, 1:4, first].tolist(), rows[0, 4:, first] / CHOICE_UNITS):
        assert tuple(chunk) == inverse_transform(likely, tuple(numbers))
    assert 0.45 < (rows[:, 4:, CHUNK:] / CHOICE_UNITS).mean() < 0.55
