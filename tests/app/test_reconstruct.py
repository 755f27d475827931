import pytest

import calm
from app.limits import WALK_NEIGHBOURS
from app.payloads import latent
from app.registry import loaded
from app.tabs import reconstruct as reconstruct_tab
from calm import storyland


@pytest.fixture(scope="module")
def model():
    return loaded()


def test_the_reconstruction_marks_tokens_that_differ(model):
    text = "Mia lost her kite near the old mill."
    result = calm.reconstruct(model.lm, text, noise=2.5, seed=1)
    payload = latent.reconstruction(model, result)
    assert "".join(chunk["text"] for chunk in payload["chunks"]) == text
    wrong = [pair for chunk in payload["chunks"] for pair in chunk["tokens"] if not pair["exact"]]
    assert wrong and result.token_accuracy < 1
    assert f"{result.token_accuracy:.2%}" in reconstruct_tab.summary(result, 2.5)


def test_a_split_character_is_shown_with_the_number_of_its_part(model):
    text = "Hi 🙂!"
    payload = latent.reconstruction(model, calm.reconstruct(model.lm, text))
    assert [chunk["text"] for chunk in payload["chunks"]] == ["Hi 🙂 (1/2)", "🙂 (2/2)!"]
    assert all(chunk["decoded_text"] == chunk["text"] and len(chunk["tokens"]) == 1 for chunk in payload["chunks"])


def test_a_walk_starts_at_the_chunk_and_ends_at_its_target(model):
    a, b = (chunk for chunk in calm.reconstruct(model.lm, "Once upon a time there was").chunks[:2])
    walk = reconstruct_tab.walk({"model": model.name, "mean": a.mean.tolist(), "target": b.mean.tolist()})
    points = walk["points"]
    assert points[0]["token_ids"] == a.token_ids and points[-1]["token_ids"][: len(b.token_ids)] == b.token_ids
    assert walk["offsets"][0] == 0 and walk["offsets"][-1] == 1
    walk = reconstruct_tab.walk({"model": model.name, "mean": a.mean.tolist(), "direction": 0})
    middle, points = len(walk["offsets"]) // 2, walk["points"]
    assert walk["offsets"][middle] == 0 and points[middle]["token_ids"] == a.token_ids
    assert len({point["text"] for point in points}) > 1
    distances = [neighbour["distance"] for neighbour in points[middle]["neighbours"]]
    assert distances == sorted(distances) and len(distances) == WALK_NEIGHBOURS


HUGE = {"mean": [3e38] * 64, "target": [-3e38] * 64}
"""float32 holds both vectors, and not their difference."""
MEANS = [{}, {"mean": [1.0]}, {"mean": [0.0] * 64}, {"mean": ["x"] * 64, "direction": 0}, HUGE]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("request_", [*({"model": "story-k4", **mean} for mean in MEANS), {}, {"model": "other"}])
def test_a_walk_from_an_invalid_vector_is_reported_in_one_sentence(request_):
    assert set(reconstruct_tab.walk(request_)) == {"error"}


def test_robustness_falls_with_the_noise(model):
    curve = list(calm.robustness(model.lm, next(storyland.stories("validation", 1)), [0.0, 0.3, 1.0, 3.0]))
    assert [noise for noise, _ in curve] == [0.0, 0.3, 1.0, 3.0]
    shares = [share for _, share in curve]
    assert shares[0] == 1.0 and shares == sorted(shares, reverse=True) and shares[-1] < 0.3
    assert reconstruct_tab.reference_curves()[model.name][0] == [0.0, 1.0]


def test_the_robustness_of_each_chunk_size_is_compared_on_one_text(monkeypatch):
    monkeypatch.setattr(reconstruct_tab.limits, "NOISE_LEVELS", [0.0, 0.1, 3.0])
    *_, last = reconstruct_tab._compare_curves("Once upon a time there was a fox.", 0)
    payload, card = last.results
    assert card["facts"]["model"] == "story-k1, story-k2, story-k4, story-k8" and card["button"] == "compare-curves"
    assert len(card["rows"]) == 8 and card["rows"][0] == {"model": "story-k1", "noise": 0.0, "tokens restored": 1.0}
    curves = payload["by_chunk_size"]
    assert [curve["name"] for curve in curves] == [f"K = {k}, story-k{k}" for k in (1, 2, 4, 8)]
    for curve in curves:
        (clean, share), (noisy, lower) = curve["points"]
        assert (clean, share, noisy) == (0.0, 1.0, 3.0) and lower < 1
    assert last.status == "4 autoencoders, 2 noise levels, 4 draws each"
