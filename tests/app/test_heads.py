"""The comparison of the generative heads on the tab Evaluate: its file is complete, and its table shows all of it."""

from app.files import ASSETS
from app.payloads.measurement_types import HeadFigures, HeadPoint, Place
from app.tabs import heads
from calm.modeling.heads import HEADS

PAYLOAD = heads.heads_payload()


def test_the_heads_of_the_paper_and_a_reference_are_compared():
    figures = {head["name"]: head for head in PAYLOAD["heads"]}
    assert figures.keys() == {*HEADS, "story-k4"}
    assert {name for name, head in figures.items() if "training" in head} == set(HEADS)
    counts = {name: [point["evaluations"] for point in head["points"]] for name, head in figures.items()}
    assert counts["energy"] == counts["story-k4"] == [1]
    assert counts["diffusion"][-1] == 100 and counts["flow"][-1] == 20  # as in the official code
    for head in PAYLOAD["heads"]:
        assert HeadFigures.__required_keys__ <= head.keys()
        assert "well_formed_tempered" in head["points"][-1]
        for point in head["points"]:
            assert HeadPoint.__required_keys__ <= point.keys() and point["draws_per_second"] > 0
            for figure, limit in ((point["brier_lm"], 100), (point["well_formed"], 1)):
                assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= limit


def test_every_head_was_trained_for_the_same_time():
    seconds = [head["training"]["cpu_seconds"] for head in PAYLOAD["heads"] if "training" in head]
    assert max(seconds) < 1.15 * min(seconds)  # steps were counted, not seconds
    assert heads.training_time(PAYLOAD) == f"{sum(seconds) / len(seconds) / 60:.0f} minutes"


def test_each_place_has_the_draws_of_all_heads():
    assert (ASSETS / "heads.json").stat().st_size < 150_000
    for place in PAYLOAD["places"]:
        assert place.keys() == Place.__required_keys__
        assert {draws["name"] for draws in place["draws"]} == {*HEADS, "story-k4"}
        likely, chunks = len(place["likely"]), place["chunks"]
        assert 2 <= likely <= len(chunks) and all(chunk["probability"] >= 0.05 for chunk in chunks[:likely])
        for draws in place["draws"]:
            assert len(draws["points"]) == len(draws["chunks"]) == 200
            assert all(0 <= chunk < len(chunks) for chunk in draws["chunks"])


def test_the_table_has_a_row_for_each_point():
    table = heads.heads_table(PAYLOAD)
    points = [point for head in PAYLOAD["heads"] for point in head["points"]]
    assert table.count("<th scope=row>") == len(points)
    for point in points:
        assert f"{point['brier_lm']['value']:.1f} <small>" in table
        assert f"{100 * point['well_formed']['value']:.1f} % <small>" in table
