from dataclasses import replace

import numpy as np
import pytest

import calm
from app import limits
from app.fresh_samples import draw_cloud
from app.limits import FRESH_SAMPLES
from app.payloads import latent
from app.registry import loaded
from app.tabs import vectors as vectors_tab
from calm import CalmError

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def model():
    return loaded()


def test_a_cloud_surrounds_its_step(model):
    step = next(calm.generate(model.lm, PROMPT, 0.5, 4))
    cloud = draw_cloud({"model": model.name, "prompt": PROMPT, "prefix_chunks": []})
    assert len(cloud["positions"]) == len(cloud["texts"]) == FRESH_SAMPLES
    assert step.text in cloud["texts"]
    assert set(draw_cloud({"model": model.name, "prompt": PROMPT, "prefix_chunks": [[1]]})) == {"error"}
    assert set(draw_cloud({})) == {"error"}


def test_a_fitted_map_is_split_by_run(model):
    coordinates = np.arange(20.0).reshape(10, 2)
    one, none = np.zeros((1, 3)), np.zeros((0, 3))
    own = [latent.RunVectors("a", one, one, none), latent.RunVectors("b", none, none, one)]
    fitted = latent.fitted_map(coordinates, model.map, 7, own, 2)
    assert len(fitted["positions"]) == len(fitted["texts"]) == 7
    assert fitted["runs"] == {
        "a": {"predicted": [[14.0, 15.0]], "encoded": [[16.0, 17.0]], "prompt": []},
        "b": {"predicted": [], "encoded": [], "prompt": [[18.0, 19.0]]},
    }


def test_the_vectors_of_a_run_are_its_predicted_and_encoded_ones_and_those_of_its_prompt(model, monkeypatch):
    steps = list(calm.generate(model.lm, PROMPT, 0.5, 12))
    run = {"run_id": "a", "prompt": PROMPT, "chunks": [step.token_ids for step in steps]}
    run["vectors"] = [step.vector.tolist() for step in steps]
    own, again = vectors_tab._own_vectors(model, [{**run, "run_id": "b"}, run])
    assert [own.run_id, again.run_id] == ["a", "b"]
    assert own.predicted == pytest.approx(np.stack([step.vector for step in steps]))
    assert own.encoded == pytest.approx(calm.encode(model.lm, run["chunks"]).mean, abs=1e-5)
    assert own.prompt == pytest.approx(calm.encode(model.lm, PROMPT).mean, abs=1e-5)
    monkeypatch.setattr(limits, "MAX_FIT_VECTORS", len(own.stacked()))
    assert [run.run_id for run in vectors_tab._own_vectors(model, [{**run, "run_id": "b"}, run])] == ["a"]
    monkeypatch.setattr(limits, "MAX_FIT_VECTORS", len(own.stacked()) - 1)
    monkeypatch.setattr(calm, "encode", None)  # the limit is checked before anything is encoded
    with pytest.raises(CalmError, match=rf"The latest run has {len(own.stacked())} vectors, and a map is fitted to at"):
        vectors_tab._own_vectors(model, [run])


def test_a_fit_uses_the_chunks_that_the_map_has(model, monkeypatch):
    few = replace(model, map=replace(model.map, vectors=model.map.vectors[:30], texts=model.map.texts[:30]))
    monkeypatch.setattr(vectors_tab, "loaded", lambda name: few)
    monkeypatch.setattr(vectors_tab, "stream_fit", lambda vectors, settings: iter([np.zeros((len(vectors), 2))]))
    own = [{"run_id": "a", "prompt": "", "chunks": [[1, 2, 3, 4]], "vectors": [[0.0] * 64]}]
    *_, progress = vectors_tab._fit(model.name, own, 15, 0.1, "euclidean", 2, 0)
    assert len(progress.results[0]["positions"]) == 30 and "30 training chunks" in progress.status


@pytest.mark.parametrize("own", [None, [], [{"run_id": "a"}], [{"run_id": "a", "vectors": [["x"]]}], "runs", 7])
def test_a_fit_without_vectors_is_reported_in_one_sentence(model, own):
    with pytest.raises(CalmError, match="generate a text first"):
        list(vectors_tab._fit(model.name, own, 15, 0.1, "euclidean", 2, 0))
