import numpy as np
import pytest

from calm import CalmError, storyland
from calm.training import streams as stream
from calm.training.streams import Stream

SOURCES = ["storyland:7:30", "prompted:100:11"]
LENGTH, CHUNK = 512, 4


@pytest.fixture
def make(tokenizer, monkeypatch):
    monkeypatch.setattr(stream, "BLOCK", 16)
    return lambda workers=1, sources=SOURCES: Stream(sources, tokenizer, LENGTH, CHUNK, 3, workers)


def first_document(row: np.ndarray, tokenizer) -> str:
    begin = int(np.argmax(row != tokenizer.eos_token_id))
    assert 1 <= begin <= CHUNK
    told = row[begin:]
    return tokenizer.decode(told[: int(np.argmax(told == tokenizer.eos_token_id))])


def test_an_epoch_tells_every_document_once_and_mixes_the_sources(make, tokenizer):
    told = make(workers=2)
    rows = np.concatenate([told.rows(step, 7) for step in range(12)])  # 84 rows, two epochs and two rows
    assert rows.shape == (84, LENGTH) and rows.dtype == np.int64
    documents = [first_document(row, tokenizer) for row in rows]
    wanted = sorted([*storyland.corpus(30, 7), *storyland.prompted_stories(11, 100)])
    assert sorted(documents[:41]) == sorted(documents[41:82]) == wanted
    assert documents[:41] != documents[41:82]
    prompted = set(storyland.prompted_stories(11, 100))
    assert any(text in prompted for text in documents[:13]) and any(text not in prompted for text in documents[:13])


def test_a_row_goes_on_with_the_documents_that_follow(make, tokenizer):
    rows = make().rows(0, 12)  # within one block
    told = [first_document(row, tokenizer) for row in rows]
    for row, following in zip(rows[:-1], told[1:]):
        text = tokenizer.decode(row, skip_special_tokens=True)
        assert len(text) > 600 and following[:40] in text


def test_a_batch_depends_on_its_number_alone(make):
    straight = make()
    batches = [straight.rows(step, 5) for step in range(20)]
    assert np.array_equal(make(workers=2).rows(17, 5), batches[17])  # as a resumed run wants it
    assert np.array_equal(straight.rows(2, 5), batches[2])
    assert np.array_equal(straight.rows(0, 100), np.concatenate(batches))  # over several blocks
    assert not np.array_equal(batches[0], batches[1])


def test_what_cannot_be_told_by_seeds_is_refused(make):
    for source, said in (
        ("assorted:1:9", "cannot be told"),
        ("storyland:1", "SEED:COUNT"),
        ("prompted:0:0", "no text"),
    ):
        with pytest.raises(CalmError, match=said):
            make(sources=[source])
