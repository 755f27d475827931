import pytest

import calm
from app.backends import LoadedModel
from app.leases import leased
from app.limits import EVALUATION_SAMPLES
from app.registry import loaded
from app.requests import BrierCurveArguments, EvaluateArguments
from app.tabs import brier_curve, measuring
from app.tabs import evaluate as evaluate_tab
from calm import CalmError, storyland

from .arguments import local_model


@pytest.fixture(scope="module")
def model():
    return loaded()


def measured(model: LoadedModel, texts: list[str]) -> measuring.Measurement:
    *_, (measurement,) = measuring.measure(model, texts, 0)
    return measurement


def test_models_are_measured_one_after_another_and_kept_in_memory_as_long(model, monkeypatch):
    monkeypatch.setattr(measuring, "throttle", iter)
    texts = list(storyland.stories("validation", 2))
    arguments = EvaluateArguments.parse({"text": "\n\n".join(texts), "models": ["story-ar", "story-k4"]})
    seen = [("story-ar" in leased(), [(m.model, m.texts) for m in both]) for _, both in measuring.progress(arguments)]
    assert seen[0] == (True, [("story-ar", 0), ("story-k4", 0)])
    assert seen[-2] == (False, [("story-ar", 2), ("story-k4", 2)])
    measurement = measured(model, texts)
    assert measurement.result == calm.brier_lm(model.lm, texts, 0, EVALUATION_SAMPLES)
    table = evaluate_tab.scores_table([measurement], evaluate_tab.reference_scores())
    assert f"{measurement.result.score:.1f}" in table and "100 texts of storyland" in table


def test_the_gap_to_the_best_model_is_computed_text_by_text(model, tiny_ar):
    texts = list(storyland.stories("validation", 2))
    measurements = [measured(each, texts) for each in (local_model(tiny_ar), model)]
    gap = calm.brier_difference(measurements[1].result, measurements[0].result)
    cell = f"<td>{gap.difference:.1f} <small>({gap.low:.1f} to {gap.high:.1f})</small></td>"
    worse, best = evaluate_tab.scores_table(measurements, {}).split("<tbody>")[1].split("</tr>")[:2]
    assert gap.difference > 10 and cell in worse and "<td>–</td>" in best
    part = [measuring.Measurement("tiny-ar", 1, calm.brier_lm(tiny_ar, texts[:1])), measurements[1]]
    assert cell not in evaluate_tab.scores_table(part, {})  # while the second text is being measured


def test_a_single_text_has_no_interval(model, tiny_ar):
    texts = list(storyland.stories("validation", 1))
    worse, best = (measured(each, texts) for each in (local_model(tiny_ar), model))
    table = evaluate_tab.scores_table([worse, best], {})
    assert " to " not in table.split("<tbody>")[1]
    assert f"<td>{best.result.score - worse.result.score:.1f}</td>" in table


@pytest.mark.parametrize(
    ("text", "sentence"), [("", "no text to measure"), (None, "no text"), ("x" * 20_001, "20,001 characters")]
)
def test_text_that_cannot_be_measured_is_reported_in_one_sentence(text, sentence):
    with pytest.raises(CalmError, match=sentence):
        measuring.split_texts(EvaluateArguments.parse({"text": text, "models": []}).text)


def test_blank_lines_separate_texts():
    assert measuring.split_texts("one\n\ntwo\n\n\n\nthree") == ["one", "two", "three"]


def test_an_upload_of_any_common_encoding_fills_in_its_text(tmp_path):
    path = tmp_path / "stories.TXT"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "cp1252"):
        path.write_bytes("Où est Zoé ?\r\n \r\nIci.".encode(encoding))
        content, status = evaluate_tab._read_upload(str(path))
        assert content == "Où est Zoé ?\n \nIci." and "calm-error" not in status
    assert measuring.split_texts(content) == ["Où est Zoé ?", "Ici."]


def test_a_file_that_is_not_text_is_reported_in_one_sentence(tmp_path):
    (tmp_path / "picture.txt").write_bytes(bytes(range(256)))
    (tmp_path / "long.txt").write_text("x" * 20_001)
    (tmp_path / "empty.txt").write_text("\n")
    for path, sentence in (
        (tmp_path / "picture.txt", "picture.txt is not a text file"),
        (tmp_path / "none.txt", "none.txt cannot be read"),
        (tmp_path / "long.txt", "long.txt is longer than 20,000 characters"),
        (tmp_path / "empty.txt", "no text to measure"),
        (None, "The upload cannot be read"),
    ):
        _, status = evaluate_tab._read_upload(path and str(path))
        assert sentence in status and str(tmp_path) not in status


def test_a_curve_has_the_complete_temperatures_of_each_model(model, tiny_ar):
    texts = [text[:200] for text in storyland.stories("validation", 2)]
    for each in (model, local_model(tiny_ar)):
        seen = [brier_curve.curves(own) for own in measuring.measure(each, texts, 0, [0.5, 1.0])]
        assert seen[0] == {"curves": [{"model": each.name, "points": []}]}
        (curve,) = seen[-1]["curves"]
        assert [point["temperature"] for point in curve["points"]] == [0.5, 1.0]
        for point in curve["points"]:
            result = calm.brier_lm(each.lm, texts, 0, EVALUATION_SAMPLES, temperature=point["temperature"])
            assert (point["score"], point["low"], point["high"]) == (result.score, result.low, result.high)


def test_a_curve_has_the_budget_of_an_evaluation(monkeypatch):
    arguments = {"text": "x" * 10_000, "models": ["story-k4", "story-ar"]}
    assert EvaluateArguments.parse(arguments)
    with pytest.raises(CalmError, match="Characters times models times temperatures must be at most 60,000, not 80,0"):
        BrierCurveArguments.parse(arguments)
    monkeypatch.setattr(BrierCurveArguments, "temperatures", (0.5, 1.0))
    *_, last = brier_curve._measure_curve("A shy fox named Mia lived in a den.", ["story-k4"], 0)
    payload, card = last.results
    assert [point["temperature"] for point in payload["curves"][0]["points"]] == [0.5, 1.0]
    assert [row["temperature"] for row in card["rows"]] == [0.5, 1.0] and card["button"] == "brier-curve"
    assert "4 samples at each" in last.status and "One text gives no interval" in last.status


def test_few_texts_and_negative_scores_bring_a_sentence():
    def warnings(texts: int, brier: tuple[float, ...]) -> list[str]:
        result = calm.BrierLM(20.0, brier, 10.0, 30.0, 100, ((1.0, 1.0, 1.0, 1.0, 5.0),) * texts)
        return measuring.warnings([measuring.Measurement("story-k4", texts, result)])

    good = (40.0, 30.0, 20.0, 10.0)
    assert warnings(measuring.ENOUGH_TEXTS, good) == measuring.warnings([]) == []
    assert "One text gives no interval" in warnings(1, good)[0]
    assert "fewer than 10 texts are rough" in warnings(2, good)[0]
    negative = warnings(20, (40.0, 30.0, 20.0, -1.0))[0]
    assert "negative Brier-n" in negative and "more than twice as often" in negative


def test_a_model_that_was_not_measured_is_left_out_of_the_plot(monkeypatch):
    monkeypatch.setattr(evaluate_tab, "bundled", lambda: ["story-k4", "exported-only"])
    assert [model["model"] for model in evaluate_tab.scores_payload()["models"]] == ["story-k4"]
