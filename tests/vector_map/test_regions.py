import numpy as np
import pytest

from calm.vector_map import VectorMap, density, map_path, read, read_summary, regions, summary_path
from calm.vector_map.regions import GRID, _terms

MODELS = ["story-k1", "story-k2", "story-k4", "story-k8"]
TOPICS = [("a shy fox", (0, 0)), ("said Mia", (10, 0)), ("the dark", (0, 10))]


@pytest.fixture(scope="module")
def clusters() -> VectorMap:
    """Three clusters of thirty chunks, each with a phrase of its own, and scattered chunks between them."""
    rng = np.random.default_rng(0)
    texts = [f" {phrase} {i % 3 * 'and '}went." for phrase, _ in TOPICS for i in range(30)]
    centres = np.repeat([centre for _, centre in TOPICS], 30, axis=0)
    plane = np.concatenate([centres + 0.3 * rng.standard_normal((90, 2)), rng.uniform(-2, 12, (12, 2))])
    vectors = np.concatenate([plane, rng.standard_normal((102, 6))], axis=1).astype(np.float32)
    texts += [f" stray {i} then" for i in range(12)]
    return VectorMap(vectors, texts, [5] * 102, vectors[:, :2], vectors[:, :3])


def test_regions_lie_at_the_clusters_and_name_their_words(clusters):
    found = regions(clusters)
    for phrase, centre in TOPICS:
        near = [region for region in found if np.linalg.norm(np.array(region.plane) - centre) < 1]
        assert near and all(set(region.label.split(" · ")[0].split()) <= set(phrase.split()) for region in near)
    assert not any("stray" in region.label or "went" in region.label.split(" · ")[0] for region in found)


def test_regions_depend_on_the_map_alone(clusters):
    assert regions(clusters) == regions(clusters)
    assert [region.weight for region in regions(clusters)] == sorted(
        (region.weight for region in regions(clusters)), reverse=True
    )


def test_parts_of_words_are_no_terms():
    terms, spellings = _terms(["ow. The fox", " fox ran thun", "thunder. Then the", " the fox."])
    assert terms[0] == {"the", "fox", "the fox"} and "thun" not in terms[1] and "fox" in terms[1]
    assert "ow" not in spellings and spellings["fox"] == "fox"


def test_the_density_is_highest_among_the_chunks(clusters):
    found = density(clusters.plane)
    values = np.array(found.values)
    assert values.shape == (GRID, GRID) and values.max() == 100 and values.min() >= 0
    x, y = np.linspace(*found.x, GRID), np.linspace(*found.y, GRID)
    assert found.x[0] < clusters.plane[:, 0].min() and found.y[1] > clusters.plane[:, 1].max()
    for _, (a, b) in TOPICS:
        assert values[np.abs(y - b).argmin(), np.abs(x - a).argmin()] > 60
    assert values[np.abs(y - 10).argmin(), np.abs(x - 10).argmin()] < 40


@pytest.mark.parametrize("model", MODELS)
def test_the_bundled_summaries_describe_their_maps(model):
    summary = read_summary(summary_path(model, "assets"))
    bundled = read(map_path(model, "assets"))
    assert len(summary.regions) >= 20
    for region in summary.regions[:20]:
        term = region.label.split(" · ")[0].lower()
        distances = np.linalg.norm(bundled.plane - region.plane, axis=1).round(2)
        assert any(term in bundled.texts[i].lower() for i in np.flatnonzero(distances == 0))
    assert summary.density == {
        "plane": density(bundled.plane),
        "principal": density(bundled.project(bundled.vectors, 3)),
    }
    assert summary.prediction_error.steps >= 300
