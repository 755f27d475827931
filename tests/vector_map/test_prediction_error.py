import numpy as np
import pytest

import calm
from calm import CalmError
from calm.vector_map import prediction_error


def test_percentiles_of_the_distances_while_texts_are_continued(story):
    measured = prediction_error(story, ["storyland:12000000:2"])
    distances = []
    for number in range(2):
        text = calm.storyland.story(12_000_000 + number)
        prompt = text[: len(text) // 4].rpartition(" ")[0]
        for step in calm.generate(story, prompt, 0.5, max_new_tokens=64, seed=number):
            encoded = calm.encode(story, [step.token_ids]).mean[0]
            distances.append(np.linalg.norm(step.vector - encoded))
    assert measured.steps == len(distances) and measured.temperature == 0.5
    expected = np.percentile(distances, [10, 50, 90])
    assert [measured.low, measured.median, measured.high] == pytest.approx(expected, abs=1e-3)


def test_texts_and_vectors_are_needed(story, tiny_ar, tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(CalmError, match="no text"):
        prediction_error(story, [str(tmp_path / "empty.jsonl")])
    with pytest.raises(CalmError, match="choose a CALM"):
        prediction_error(tiny_ar, ["storyland:12000000:1"])
