"""The choice of a backend, and what a page on a cluster needs."""

import json
import re
import sys
from pathlib import Path

import pytest

import calm
from app import backends, compute, metrics
from app.backends import ray
from app.backends.ray import RayBackend, RemoteModel

DASHBOARD = Path(__file__).parents[2] / "deploy/grafana/calm.json"


@pytest.fixture
def chosen(monkeypatch):
    def choose(name):
        monkeypatch.setenv("CALM_BACKEND", name)
        return backends.current.__wrapped__()

    return choose


def test_the_environment_chooses_the_backend(chosen):
    assert isinstance(chosen("ray"), RayBackend) and type(chosen("local")).__name__ == "LocalBackend"
    with pytest.raises(calm.CalmError, match="CALM_BACKEND is local or ray, not slurm"):
        chosen("slurm")


def test_without_ray_one_sentence_says_how_to_install_it(monkeypatch, capsys):
    from calm.cli import main

    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "calm.serving.deployment", raising=False)
    monkeypatch.delattr("calm.serving.deployment", raising=False)
    with pytest.raises(calm.CalmError, match=r"Ray is not installed: run pip install 'calm-playground\[cluster\]'"):
        RayBackend().load("story-k4", lambda needed, free: None, lambda arrived, size: None)
    assert main(["serve", "--ray"]) == 2 and "Ray is not installed" in capsys.readouterr().err
    assert main(["serve"]) == 2 and "add --ray" in capsys.readouterr().err


def test_texts_of_replicas_end_when_the_page_stops(monkeypatch, story):
    class Client:
        closed = False

        def stream(self, *_):
            try:
                yield from range(9)
            finally:
                self.closed = True

    monkeypatch.setattr(compute, "_closed", [])
    monkeypatch.setattr(ray, "_clients", {"story-k4": Client()})
    model = RemoteModel("story-k4", story, None)
    running, waiting = (model.stream("", calm.GenerationOptions()) for _ in range(2))
    assert next(running) == 0
    compute.close(calm.CalmError("The page stops."))
    for items in (running, waiting):
        with pytest.raises(calm.CalmError, match="The page stops"):
            next(items)
    with pytest.raises(calm.CalmError, match="The page stops"):
        model.decode([])
    assert model.client.closed


def test_every_figure_of_the_dashboard_is_exported():
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    exported = metrics.render().decode()
    from calm.serving.replica import process_figures

    replicas = {f"ray_calm_replica_{name}" for name in (*process_figures(), "active", "queued")}
    replicas |= {"ray_calm_replica_first_chunk_seconds_bucket"}
    names = set(re.findall(r"\b(?:ray_)?(?:calm|process)_[a-z_]+", expressions))
    assert names and {name for name in names - replicas if name not in exported} == set()
