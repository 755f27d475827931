import pytest

import calm
from app.limits import MAP_NEIGHBOURS, MAX_PLACED_CHUNKS
from app.map_queries import find_nearest, place_chunks
from app.registry import BASELINE, loaded


@pytest.fixture(scope="module")
def model():
    return loaded()


@pytest.fixture(scope="module")
def chunks(model):
    ids = model.lm.tokenize("Once upon a time, near a forest")
    return [ids[:4], ids[4:8]]


def test_chunks_are_placed_where_the_map_has_them(model, chunks):
    positions = place_chunks({"model": model.name, "chunks": chunks})
    for chunk, position in zip(chunks, positions):
        row = model.map.texts.index(model.lm.chunk_text(tuple(chunk)))
        assert position["plane"] == pytest.approx(model.map.plane[row], abs=0.2)
        assert position["space"] == pytest.approx(model.map.space[row], abs=0.2)


def test_the_nearest_chunks_of_a_chunk(model, chunks):
    by_ids = find_nearest({"model": model.name, "chunks": chunks[:1], "index": None})["neighbours"]
    row = by_ids[0]["index"]
    assert model.map.texts[row] == model.lm.chunk_text(tuple(chunks[0])) and by_ids[0]["distance"] < 0.05
    by_index = find_nearest({"model": model.name, "chunks": [], "index": row})["neighbours"]
    assert [n["index"] for n in by_index[:-1]] == [n["index"] for n in by_ids[1:]]
    for neighbours in (by_ids, by_index):
        distances = [n["distance"] for n in neighbours]
        assert len(neighbours) == MAP_NEIGHBOURS and distances == sorted(distances)
        assert all(n["count"] == model.map.count_of(n["text"]) for n in neighbours)


def test_bad_requests_are_one_sentence(model, chunks):
    many = [chunks[0]] * (MAX_PLACED_CHUNKS + 1)
    for request in ({}, {"model": model.name}, {"model": model.name, "chunks": [["x"]]}):
        assert place_chunks(request) == {"error": "These are no chunks of token ids."}
    for bad in ([], many, [[1]], [[10**6] * 4]):
        assert set(place_chunks({"model": model.name, "chunks": bad})) == {"error"}
    for index in (-1, len(model.map.texts), "a"):
        answer = find_nearest({"model": model.name, "chunks": [], "index": index})
        assert answer == {"error": "There is no such chunk on the map."}
    assert set(find_nearest({"model": model.name, "chunks": [], "index": None})) == {"error"}
    assert set(find_nearest({})) == {"error"}
    no_map = place_chunks({"model": BASELINE, "chunks": [[1]]})
    assert isinstance(no_map, dict) and calm.load(BASELINE).chunk_size == 1
