import multiprocessing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import calm
from calm import CalmError
from calm import vector_map as maps
from calm.engine.ops.cpu import cache
from calm.generation import align
from calm.vector_map import VectorMap, build, building, map_path, read, read_summary, summary_path

ASSETS = "assets"


@pytest.fixture(scope="module", params=["story-k1", "story-k2", "story-k4", "story-k8"])
def mapped(request) -> calm.LanguageModel:
    """Each bundled CALM, on the CPU."""
    return calm.load(request.param, device="cpu")


@pytest.fixture(scope="module")
def bundled(mapped) -> VectorMap:
    return read(map_path(mapped.name, ASSETS))


def test_each_bundled_calm_has_a_map():
    names = {name for name in calm.bundled() if calm.load(name, device="cpu").is_calm}
    for kind in ("map", "summary"):
        assert {path.stem.removeprefix(f"{kind}-") for path in Path(ASSETS).glob(f"{kind}-*.json")} == names


def test_the_bundled_map_is_complete(bundled, mapped):
    n = len(bundled.texts)
    assert n >= (2000 if mapped.chunk_size > 1 else 1500)  # Storyland has few more different tokens
    assert bundled.plane.shape == (n, 2) and bundled.space.shape == (n, 3)
    assert bundled.vectors.shape[0] == n and len(bundled.counts) == n
    assert np.isfinite(bundled.plane).all() and bundled.plane.std() > 0.5


def test_the_map_belongs_to_the_bundled_model(bundled, mapped):
    """The stored vectors are the posterior means of their texts."""
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


def test_chunks_of_the_map_keep_their_position(bundled):
    plane, space = bundled.transform(bundled.vectors[:300])
    assert np.abs(plane - bundled.plane[:300]).max() < 0.2
    assert np.abs(space - bundled.space[:300]).max() < 0.2


def test_close_vectors_land_close(bundled):
    rng = np.random.default_rng(0)
    near = bundled.vectors[:300] + 0.05 * rng.standard_normal(bundled.vectors[:300].shape)
    moved = np.linalg.norm(bundled.transform(near)[0] - bundled.plane[:300], axis=1)
    apart = np.linalg.norm(bundled.plane[rng.permutation(300)] - bundled.plane[:300], axis=1)
    assert np.median(moved) < 0.2 * np.median(apart)


def test_predicted_vectors_land_on_the_map(bundled, mapped):
    steps = list(calm.generate(mapped, "Once upon a time", max_new_tokens=60))
    positions = bundled.transform(np.stack([step.vector for step in steps]))
    for position, target in zip(positions, (bundled.plane, bundled.space)):
        assert position.shape == (len(steps), target.shape[1]) and position.dtype == np.float32
        assert (position >= target.min(0)).all() and (position <= target.max(0)).all()


def test_a_small_map_can_be_built(story, tmp_path, monkeypatch):
    """Without UMAP, which compiles for half a minute. The browser test of a user's own fit runs UMAP itself."""
    monkeypatch.setattr(building, "fit", lambda vectors, settings: vectors[:, : settings.dimensions])
    path = map_path(story.name, tmp_path)
    built = read(build(story, ["storyland:0:30"], 300, path, ["storyland:12000000:2"]))
    assert len(built.texts) == 300 and built.plane.shape == (300, 2)
    assert built.plane == pytest.approx(built.vectors[:, :2], abs=2e-3)
    assert built.space == pytest.approx(built.vectors[:, :3], abs=2e-3)
    assert align(story, story.tokenize(built.texts[0]))
    summary = read_summary(summary_path(story.name, tmp_path))
    assert summary.density["plane"] == maps.density(built.plane)
    assert 0 < summary.prediction_error.low <= summary.prediction_error.median <= summary.prediction_error.high


def test_bad_arguments_are_refused(tiny_ar, tmp_path):
    with pytest.raises(CalmError, match="no vector map"):
        read(tmp_path / "none.json")
    with pytest.raises(CalmError, match="no summary"):
        read_summary(tmp_path / "none.json")
    with pytest.raises(CalmError, match="choose a CALM model"):
        build(tiny_ar, ["storyland:0:30"], 300, tmp_path / "map.json")


def test_a_map_of_any_model_starts_with_principal_components(tiny, tiny_ar, tmp_path, monkeypatch):
    """The fits are replaced as above."""

    def stream_fit(vectors, *settings):
        for one in settings:
            yield from (0, 50)
            yield vectors[:, : one.dimensions]

    monkeypatch.setattr(building, "stream_fit", stream_fit)
    monkeypatch.setenv("CALM_MAPS", str(tmp_path))
    (tmp_path / "texts.txt").write_text("\n\n".join(calm.storyland.corpus(20, 0)))
    monkeypatch.setenv("CALM_MAP_TEXTS", str(tmp_path / "texts.txt"))
    lm = tiny()
    first, *percentages, last = maps.stream_build(lm, maps.map_sources(), maps.stored_map_path(lm))
    assert percentages == [0, 25, 50, 75, 100] and last == maps.stored_map_path(lm)
    early, late = read(first), read(last)
    assert early.plane == pytest.approx(early.project(early.vectors, 2), abs=0.02)
    assert late.plane == pytest.approx(late.vectors[:, :2], abs=2e-3) and early.texts == late.texts
    early, late = (read_summary(maps.summary_of(path)) for path in (first, last))
    assert early.regions and early.prediction_error is None and late.regions
    assert late.prediction_error == maps.prediction_error(lm, maps.map_sources(), 10)


def test_the_command_stores_the_map_of_a_model_that_is_not_bundled_where_the_page_finds_it(tiny, tmp_path, monkeypatch):
    from calm.cli import main
    from calm.hub.saving import save

    monkeypatch.setattr(building, "fit", lambda vectors, settings: vectors[:, : settings.dimensions])
    monkeypatch.setenv("CALM_MAPS", str(tmp_path / "maps"))
    save(tiny(), tmp_path / "mine")
    (tmp_path / "texts.txt").write_text("\n\n".join(calm.storyland.corpus(20, 0)))
    texts = ["--texts", str(tmp_path / "texts.txt"), "--held-out", "storyland:12000000:1"]
    assert main(["map", "--model", str(tmp_path / "mine"), "--device", "cpu", "--points", "200", *texts]) in (0, None)
    lm = calm.load(tmp_path / "mine", device="cpu")
    assert len(read(maps.stored_map_path(lm)).texts) == 200
    assert read_summary(maps.summary_of(maps.stored_map_path(lm))).prediction_error.steps


def test_the_fingerprint_depends_on_the_autoencoder(tiny, tiny_ar):
    one, same, other = (maps.stored_map_path(tiny(k)) for k in (4, 4, 2))
    assert one == same != other
    changed = tiny()
    with torch.no_grad():
        changed.calm.ae_model.decoder.norm.weight[0] += 1
    assert maps.stored_map_path(changed) != one
    with pytest.raises(CalmError, match="choose a CALM model"):
        maps.stored_map_path(tiny_ar)


def test_a_fit_stores_the_code_that_was_compiled_for_it():
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    *percentages, positions = maps.stream_fit(vectors, maps.FitSettings(neighbours=5))
    assert percentages == sorted(percentages) and positions.shape == (60, 2)
    assert list(cache.FOLDER.rglob("layouts._optimize_layout_euclidean*.nbc"))


def test_closing_a_fit_ends_its_subprocess():
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    fit = maps.stream_fit(vectors, maps.FitSettings(neighbours=5))
    next(fit)
    assert multiprocessing.active_children()
    fit.close()
    assert not multiprocessing.active_children()


def test_a_fit_whose_process_is_killed_is_one_sentence():
    vectors = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)
    fit = maps.stream_fit(vectors, maps.FitSettings(neighbours=5))
    next(fit)
    for child in multiprocessing.active_children():
        child.kill()
    with pytest.raises(CalmError, match="ended without a map"):
        list(fit)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"neighbours": 1}, "Neighbours must be from 2 to 59"),
        ({"min_dist": 2}, "minimum distance"),
        ({"metric": "taxi"}, "metric 'taxi' is not known"),
        ({"dimensions": 4}, "2 or 3 dimensions"),
    ],
)
def test_a_fit_with_bad_settings_is_refused(change, sentence):
    with pytest.raises(CalmError, match=sentence):
        next(maps.stream_fit(np.zeros((60, 8), np.float32), maps.FitSettings(**change)))


def test_the_files_of_two_maps_are_no_map(tmp_path):
    """A reader between the two replacements, and a writer that was killed there, leave such files."""
    vectors = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    vector_map = VectorMap(vectors, [str(i) for i in range(20)], [1] * 20, vectors[:, :2], vectors[:, :3])
    one, other = tmp_path / "one.json", tmp_path / "other.json"
    building._write(one, vector_map)
    building._write(other, replace(vector_map, vectors=vectors + 1))
    assert read(one).vectors == pytest.approx(vectors, abs=0.01)
    one.write_bytes(other.read_bytes())
    with pytest.raises(CalmError, match="are of two maps"):
        read(one)
