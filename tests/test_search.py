"""Offsets of chunks, pooled vectors, and the search for nearest chunks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

import calm
from calm import CalmError
from calm.cli import main
from calm.search import build_index, read_index, search

TEXTS = ["Once upon a time there was a shy fox named Mia.", "The old owl Ben lost a 🙂 kite at the lake."]


def test_chunks_have_offsets_and_texts_a_pooled_vector(tiny):
    lm = tiny(4)
    for text in TEXTS:
        encoding = calm.encode(lm, text)
        starts, ends = zip(*encoding.offsets)
        assert starts[0] == 0 and ends[-1] == len(text) and len(encoding.offsets) == len(encoding.mean)
        for number, (start, end) in enumerate(encoding.offsets):
            shown = lm.detokenize(encoding.token_ids[number]).strip("�")
            assert shown in text[start:end]
        assert encoding.pooled == pytest.approx(encoding.mean.mean(0))


def test_a_passage_is_nearest_to_itself(tiny, tmp_path):
    lm = tiny(4)
    build_index(lm, TEXTS).save(tmp_path / "index")
    index = read_index(tmp_path / "index")
    assert index.model == lm.name and index.texts == TEXTS
    for document, text in enumerate(TEXTS):
        ids = lm.tokenize(text)
        query = lm.detokenize(ids[4:12])
        assert lm.tokenize(query) == ids[4:12]
        best, *others = search(lm, index, query, count=5)
        assert (best.document, best.text) == (document, query) and best.distance == pytest.approx(0, abs=1e-4)
        assert all(other.distance >= best.distance for other in others)
    everything = search(lm, index, TEXTS[0][:8], count=1000)
    assert np.isfinite([passage.distance for passage in everything]).all()  # no passage spans two documents


def test_mistakes_end_in_a_sentence(tiny, tiny_ar, tmp_path):
    lm = tiny(4)
    index = build_index(lm, TEXTS)
    (tmp_path / "other").write_text("x")
    for attempt, sentence in (
        (lambda: build_index(lm, []), "no text to index"),
        (lambda: build_index(tiny_ar, TEXTS), "works token by token"),
        (lambda: read_index(tmp_path / "none"), "There is no index at"),
        (lambda: read_index(tmp_path / "other"), "is not an index of calm index"),
        (lambda: search(lm, index, "a", count=0), "count"),
        (lambda: search(lm, replace(index, vectors=index.vectors[:, :8]), "a"), "with other weights"),
    ):
        with pytest.raises(CalmError, match=sentence):
            attempt()


def test_an_index_is_searched_by_the_model_of_its_vectors(tiny):
    lm, other = tiny(4), tiny(4)
    with torch.no_grad():
        other.calm.ae_model.encoder.hidden_to_latent.weight.neg_()
    for texts in (TEXTS, ["a", *TEXTS]):  # the first chunk of the second index is not complete
        index = build_index(lm, texts)
        assert search(tiny(4), index, "a fox", count=1)
        with pytest.raises(CalmError, match="The index has vectors of tiny-k4, not of tiny-k2"):
            search(tiny(2), index, "a fox")
        with pytest.raises(CalmError, match="The index has vectors of tiny-k4 with other weights; write it again"):
            search(other, index, "a fox")


def test_the_commands_index_and_search(tmp_path, capsys):
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS))
    file = str(tmp_path / "index")
    assert main(["index", str(tmp_path / "texts.jsonl"), "--out", file, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["search", file, TEXTS[0], "--count", "1", "--json", "--device", "cpu"]) == 0
    (passage,) = json.loads(capsys.readouterr().out)
    assert passage["document"] == 0 and passage["start"] == 0 and passage["distance"] == pytest.approx(0, abs=1e-4)
