"""A model without a map of its own gets one in the background: principal components first, then UMAP."""

import gc
import threading

import numpy as np
import pytest

import calm
from app import leases, model_maps, registry, stored_maps
from app.files import file_url
from app.tabs import vectors as vectors_tab
from calm import CalmError
from calm.hub.saving import save
from calm.vector_map import building, stored_map_path
from calm.vector_map import stored_maps as stored_folder

PROMPT = "Once upon a time"


@pytest.fixture
def name(monkeypatch, tiny, tmp_path) -> str:
    """A model in the menu without a map, and texts at hand."""
    save(tiny(), tmp_path / "mine")
    (tmp_path / "texts.txt").write_text("\n\n".join(calm.storyland.corpus(20, 0)))
    monkeypatch.setenv("CALM_MODELS", str(tmp_path / "mine"))
    monkeypatch.setenv("CALM_MAPS", str(tmp_path / "maps"))
    monkeypatch.setenv("CALM_MAP_TEXTS", str(tmp_path / "texts.txt"))
    monkeypatch.setattr(registry, "_loads", {})
    monkeypatch.setattr(stored_maps, "_fits", {})
    monkeypatch.setattr(vectors_tab, "MAP_STATUS_SECONDS", 0.02)
    return str(tmp_path / "mine")


def updates(name: str, own: list) -> list[tuple]:
    """Status and result of each update of the tab."""
    return [(item.status, *item.results) for item in vectors_tab._make_map({"model": name, "own": own})]


def test_a_map_is_fitted_in_the_background_and_shows_principal_components_at_once(name, monkeypatch):
    fitting = threading.Event()

    def stream_fit(vectors, *settings):
        for one in settings:
            yield 40
            assert fitting.wait(60)
            yield vectors[:, : one.dimensions]

    monkeypatch.setattr(building, "stream_fit", stream_fit)
    model = registry.loaded(name)
    assert model.map is None
    steps = list(model.stream(PROMPT, calm.GenerationOptions(max_new_tokens=16, pool_size=8)))
    run = {"run_id": "a", "prompt": PROMPT, "chunks": [step.token_ids for step in steps]}
    run["vectors"] = [step.vector.tolist() for step in steps]
    seen = []
    for item in vectors_tab._make_map({"model": name, "own": [run]}):
        seen.append(item)
        if "principal components" in item.status:
            break  # the visitor leaves, and the fit goes on
    shown = seen[-1].results[0]
    assert "UMAP is being fitted: 20 %" in seen[-1].status and "-pca.json?v=" in shown["urls"]["chunks"]
    expected = registry.loaded(name).map.transform(np.stack([step.vector for step in steps]))[0]
    placed = [position["plane"] for position in shown["runs"]["a"]["predicted"]]
    assert np.array(placed) == pytest.approx(expected, abs=2e-3)
    assert len(shown["runs"]["a"]["encoded"]) == len(steps)
    fitting.set()
    *_, (status, last) = updates(name, [])
    assert status.endswith("the map is ready") and last["runs"] == {} and "-pca" not in last["urls"]["chunks"]
    file = model_maps.map_file(name, model.lm)
    assert file.parent == stored_folder() and last["urls"]["chunks"].startswith(f"{file_url(file)}?v=")
    monkeypatch.setattr(building, "stream_fit", None)
    monkeypatch.setattr(registry, "_loads", {})  # after a restart the map is read from its file
    assert registry.loaded(name).map.plane == pytest.approx(registry.loaded(name).map.vectors[:, :2], abs=2e-3)
    assert [status for status, *_ in updates(name, [])][-1].endswith("the map is ready")


def test_a_fit_that_fails_is_one_sentence_and_can_be_repeated(name, monkeypatch, tmp_path):
    (tmp_path / "texts.txt").write_text("Too few chunks.")
    for _ in range(2):
        with pytest.raises(CalmError, match="A map needs at least 100 distinct chunks"):
            updates(name, [])
    gc.collect()
    assert name not in leases.leased()  # the error keeps no request in memory
    with pytest.raises(CalmError, match="a token-by-token model has no vectors"):
        updates("story-ar", [])


def test_a_visitor_names_the_texts_of_a_map(name, monkeypatch, tmp_path):
    def stream_fit(vectors, *settings):
        yield from (vectors[:, : one.dimensions] for one in settings)

    def make(source: str, model: str = name) -> list:
        return [(item.status, *item.results) for item in vectors_tab._make_map_of_texts(model, [], source)]

    monkeypatch.setattr(building, "stream_fit", stream_fit)
    *_, (_, first) = updates(name, [])
    texts = tmp_path / "mine.txt"
    texts.write_text("\n\n".join(calm.storyland.corpus(10, 500)))
    *_, (status, last) = make(f" {texts} ")
    assert status.endswith("the map is ready") and last["urls"] != first["urls"]
    made = registry.loaded(name).map.texts
    for source, sentence in (
        ("", "Name the texts of the map"),
        ("x" * 5000, "The name of a source has at most 4,000 characters."),
        (str(tmp_path / "none.txt"), "There is no text at"),
    ):
        with pytest.raises(CalmError, match=sentence):
            make(source)
    with pytest.raises(CalmError, match="The map of story-k4 is part of the page"):
        make(str(texts), "story-k4")
    with pytest.raises(CalmError, match="No map of story-ar can be made here"):
        make(str(texts), "story-ar")
    assert registry.loaded(name).map.texts == made  # it stays after a failure
    monkeypatch.setenv("CALM_ALLOW_MODELS", "0")
    with pytest.raises(CalmError, match="This host makes maps of its own texts only"):
        make(str(texts))


def test_a_damaged_stored_map_does_not_keep_its_model_from_loading(name, caplog):
    path = stored_map_path(registry.loaded(name).lm)
    path.parent.mkdir(parents=True)
    path.write_text("{")
    path.with_suffix(".npy").write_bytes(b"")
    registry._loads.clear()
    assert registry.loaded(name).map is None and "is fitted again" in caplog.text
