"""What the tabs compute for the page."""

import numpy as np
import pytest

import calm
from app import render
from app.registry import resident
from app.tabs import evaluate as evaluate_tab
from app.tabs import generate as generate_tab
from app.tabs import reconstruct as reconstruct_tab
from app.tabs import vectors as vectors_tab
from calm import CalmError, storyland

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def model():
    return resident()


def test_samples_beside_each_other_are_what_each_is_alone(model):
    *_, together = generate_tab.stream(model, PROMPT, 0.9, 32, 5, "auto", 100, 3)
    for i, run in enumerate(together):
        *_, (alone,) = generate_tab.stream(model, PROMPT, 0.9, 32, 5 + i, "auto", 100)
        assert [s["ids"] for s in run.value["steps"]] == [s["ids"] for s in alone.value["steps"]]
        assert run.value["options"]["seed"] == 5 + i
    assert len({run.value["run"] for run in together}) == 3


def test_a_step_knows_what_the_autoencoder_would_have_said(model):
    *_, (run,) = generate_tab.stream(model, PROMPT, 1.0, 16, 0, "auto", 100)
    steps = list(calm.generate(model.lm, PROMPT, 1.0, 16, 100))
    for shown, step, vector in zip(run.value["steps"], steps, run.vectors, strict=True):
        mean = calm.reconstruct(model.lm, step.text).chunks[0].mean
        assert shown["distance"] == pytest.approx(float(np.linalg.norm(step.vector - mean)), abs=1e-3)
        assert vector == pytest.approx(step.vector, abs=1e-3)
        assert len(shown["encoded"]["plane"]) == 2 and len(shown["principal"]) == 3


def test_a_walk_begins_where_the_chunk_is_and_ends_at_the_other(model):
    a, b = (chunk for chunk in calm.reconstruct(model.lm, "Once upon a time there was").chunks[:2])
    walk = reconstruct_tab.explore({"model": model.name, "mean": a.mean.tolist(), "other": b.mean.tolist()})
    assert walk["places"][0]["ids"] == a.token_ids and walk["places"][-1]["ids"][: len(b.token_ids)] == b.token_ids
    assert walk["at"][0] == 0 and walk["at"][-1] == 1
    walk = reconstruct_tab.explore({"model": model.name, "mean": a.mean.tolist(), "direction": 0})
    middle = len(walk["at"]) // 2
    assert walk["at"][middle] == 0 and walk["places"][middle]["ids"] == a.token_ids
    assert len({place["text"] for place in walk["places"]}) > 1
    distances = [distance for _, distance in walk["places"][middle]["near"]]
    assert distances == sorted(distances) and len(distances) == reconstruct_tab.NEIGHBOURS


MEANS = [{}, {"mean": [1.0]}, {"mean": [0.0] * 64}, {"mean": ["x"] * 64, "direction": 0}]


@pytest.mark.parametrize("place", [*({"model": "story-k4", **mean} for mean in MEANS), {}, {"model": "other"}])
def test_a_walk_from_nowhere_is_one_sentence(place):
    assert set(reconstruct_tab.explore(place)) == {"error"}


def test_robustness_falls_with_the_noise(model):
    curve = list(calm.robustness(model.lm, next(storyland.stories("validation", 1)), [0.0, 0.3, 1.0, 3.0]))
    assert [noise for noise, _ in curve] == [0.0, 0.3, 1.0, 3.0]
    shares = [share for _, share in curve]
    assert shares[0] == 1.0 and shares == sorted(shares, reverse=True) and shares[-1] < 0.3
    assert reconstruct_tab.reference()[model.name][0] == [0.0, 1.0]


def test_a_cloud_surrounds_the_step_that_it_was_drawn_at(model):
    step = next(calm.generate(model.lm, PROMPT, 0.5, 4))
    cloud = vectors_tab.open_cloud({"model": model.name, "prompt": PROMPT, "chunks": []})
    assert len(cloud["points"]) == len(cloud["texts"]) == generate_tab.DRAWS
    assert step.text in cloud["texts"]
    assert set(vectors_tab.open_cloud({"model": model.name, "prompt": PROMPT, "chunks": [[1]]})) == {"error"}
    assert set(vectors_tab.open_cloud({})) == {"error"}


def test_a_fitted_map_is_taken_apart_by_run(model):
    places = np.arange(20.0).reshape(10, 2)
    own = [{"run": "a", "vectors": [0, 0]}, {"run": "b", "vectors": [0]}]
    found = render.fitted(places, model.map, 7, own, 2)
    assert len(found["places"]) == len(found["texts"]) == 7
    assert found["runs"] == {"a": [[14.0, 15.0], [16.0, 17.0]], "b": [[18.0, 19.0]]}


def test_models_are_measured_one_after_another(model, tiny_ar):
    texts = list(storyland.stories("validation", 2))
    seen = [[(m.name, m.texts) for m in found] for found in evaluate_tab.measure([model.lm, tiny_ar], texts, 0)]
    assert seen[0][1] == ("tiny-ar", 0) and seen[-1] == [("story-k4", 2), ("tiny-ar", 2)]
    *_, found = evaluate_tab.measure([model.lm], texts, 0)
    assert found[0].found == calm.brier_lm(model.lm, texts, 0, evaluate_tab.SAMPLES)
    table = render.scores(found, evaluate_tab.references())
    assert f"{found[0].found.score:.1f}" in table and "100 texts of storyland" in table


def test_models_are_held_against_the_best_text_by_text(model, tiny_ar):
    texts = list(storyland.stories("validation", 2))
    *_, found = evaluate_tab.measure([tiny_ar, model.lm], texts, 0)
    behind = calm.brier_difference(found[1].found, found[0].found)
    told = f"<td>{behind.difference:.1f} <small>({behind.low:.1f} to {behind.high:.1f})</small></td>"
    worse, best = render.scores(found, {}).split("<tbody>")[1].split("</tr>")[:2]
    assert behind.difference > 10 and told in worse and "<td>–</td>" in best
    part = [evaluate_tab.Measured("tiny-ar", 1, calm.brier_lm(tiny_ar, texts[:1])), found[1]]
    assert told not in render.scores(part, {})  # while the second text is being read


def test_a_single_text_has_no_interval(model, tiny_ar):
    texts = list(storyland.stories("validation", 1))
    *_, found = evaluate_tab.measure([tiny_ar, model.lm], texts, 0)
    table = render.scores(found, {})
    assert " to " not in table and f"<td>{found[1].found.score - found[0].found.score:.1f}</td>" in table


@pytest.mark.parametrize(
    ("text", "sentence"), [("", "no text to measure"), (None, "no text"), ("x" * 20_001, "20,001 characters")]
)
def test_what_cannot_be_measured_is_one_sentence(text, sentence):
    with pytest.raises(CalmError, match=sentence):
        evaluate_tab.split_texts(text)


def test_blank_lines_separate_texts():
    assert evaluate_tab.split_texts("one\n\ntwo\n\n\n\nthree") == ["one", "two", "three"]
