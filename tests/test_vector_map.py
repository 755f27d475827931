import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch

import calm
from calm import CalmError
from calm import vector_map as maps
from calm.generation import align
from calm.vector_map import VectorMap, build, path_of, read

ASSETS = "assets"


@pytest.fixture(scope="module", params=["story-k1", "story-k2", "story-k4", "story-k4-wide", "story-k8"])
def mapped(request) -> calm.LanguageModel:
    """Each bundled CALM, on the CPU."""
    return calm.load(request.param, device="cpu")


@pytest.fixture(scope="module")
def bundled(mapped) -> VectorMap:
    return read(path_of(mapped.name, ASSETS))


def test_each_bundled_calm_has_a_map():
    with_maps = {path.stem.removeprefix("map-") for path in Path(ASSETS).glob("map-*.json")}
    assert with_maps == {name for name in calm.bundled() if calm.load(name, device="cpu").is_calm}


def test_the_bundled_map_is_whole(bundled, mapped):
    n = len(bundled.texts)
    assert n >= (2000 if mapped.chunk_size > 1 else 1800)  # Storyland has no more different tokens
    assert bundled.plane.shape == (n, 2) and bundled.space.shape == (n, 3)
    assert bundled.vectors.shape[0] == n and len(bundled.counts) == n
    assert np.isfinite(bundled.plane).all() and bundled.plane.std() > 0.5


def test_the_map_belongs_to_the_bundled_model(bundled, mapped):
    """The stored vectors are what the bundled autoencoder says of their texts."""
    checked = 0
    for i in range(0, 400):
        ids = mapped.tokenize(bundled.texts[i])
        if len(ids) != mapped.chunk_size:
            continue  # the text of a chunk may be tokenised differently on its own
        with torch.no_grad():
            mean = mapped.calm.ae_model.encode(torch.tensor([ids]))[0][0].numpy()
        assert np.abs(mean - bundled.vectors[i]).max() < 0.02
        checked += 1
    assert checked > 100


def test_chunks_of_the_map_land_on_themselves(bundled):
    plane, space = bundled.place(bundled.vectors[:300])
    assert np.abs(plane - bundled.plane[:300]).max() < 0.2
    assert np.abs(space - bundled.space[:300]).max() < 0.2


def test_near_vectors_land_near(bundled):
    rng = np.random.default_rng(0)
    near = bundled.vectors[:300] + 0.05 * rng.standard_normal(bundled.vectors[:300].shape)
    moved = np.linalg.norm(bundled.place(near)[0] - bundled.plane[:300], axis=1)
    apart = np.linalg.norm(bundled.plane[rng.permutation(300)] - bundled.plane[:300], axis=1)
    assert np.median(moved) < 0.2 * np.median(apart)


def test_predicted_vectors_land_on_the_map(bundled, mapped):
    steps = list(calm.generate(mapped, "Once upon a time", max_new_tokens=60))
    places = bundled.place(np.stack([step.vector for step in steps]))
    for found, target in zip(places, (bundled.plane, bundled.space)):
        assert found.shape == (len(steps), target.shape[1]) and found.dtype == np.float32
        assert (found >= target.min(0)).all() and (found <= target.max(0)).all()


def test_a_small_map_can_be_built(story, tmp_path, monkeypatch):
    """UMAP itself takes half a minute to be compiled; the page's test of a fit of one's own runs has it."""
    monkeypatch.setattr(maps, "fit", lambda vectors, settings: vectors[:, : settings.dimensions])
    path = build(story, ["storyland:0:30"], 300, tmp_path)
    built = read(path)
    assert len(built.texts) == 300 and built.plane.shape == (300, 2)
    assert built.plane == pytest.approx(built.vectors[:, :2], abs=2e-3)
    assert built.space == pytest.approx(built.vectors[:, :3], abs=2e-3)
    assert align(story, story.tokenize(built.texts[0]))


def test_unusable_requests_are_refused(tiny_ar, tmp_path):
    with pytest.raises(CalmError, match="no vector map"):
        read(tmp_path / "none.json")
    with pytest.raises(CalmError, match="choose a CALM model"):
        build(tiny_ar, ["storyland:0:30"], 300, tmp_path)


def test_a_fit_that_is_left_ends_its_process():
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    fit = maps.follow_fit(vectors, maps.FitSettings(neighbours=5))
    next(fit)
    assert multiprocessing.active_children()
    fit.close()
    assert not multiprocessing.active_children()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"neighbours": 1}, "Neighbours must be from 2 to 59"),
        ({"min_dist": 2}, "minimum distance"),
        ({"metric": "taxi"}, "metric 'taxi' is not known"),
        ({"dimensions": 4}, "2 or 3 dimensions"),
    ],
)
def test_a_fit_with_odd_settings_is_refused(change, sentence):
    with pytest.raises(CalmError, match=sentence):
        next(maps.follow_fit(np.zeros((60, 8), np.float32), maps.FitSettings(**change)))
