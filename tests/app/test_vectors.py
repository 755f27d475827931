import numpy as np
import pytest

import calm
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
    own = [{"run_id": "a", "vectors": [0, 0]}, {"run_id": "b", "vectors": [0]}]
    fitted = latent.fitted_map(coordinates, model.map, 7, own, 2)
    assert len(fitted["positions"]) == len(fitted["texts"]) == 7
    assert fitted["runs"] == {"a": [[14.0, 15.0], [16.0, 17.0]], "b": [[18.0, 19.0]]}


@pytest.mark.parametrize("own", [None, [], [{"run_id": "a"}], [{"run_id": "a", "vectors": [["x"]]}], "runs", 7])
def test_a_fit_without_vectors_is_reported_in_one_sentence(model, own):
    with pytest.raises(CalmError, match="generate a text first"):
        list(vectors_tab._fit(model.name, own, 15, 0.1, "euclidean", 2, 0))
