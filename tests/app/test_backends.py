"""The choice of a backend, and what a page on a cluster needs."""

import json
import re
import sys
from pathlib import Path

import pytest

import calm
from app import backends, metrics
from app.backends.ray import RayBackend

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


def test_every_figure_of_the_dashboard_is_exported():
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    expressions = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    exported = metrics.render().decode()
    from calm.serving.replica import process_figures

    replicas = {f"ray_calm_replica_{name}" for name in (*process_figures(), "active", "queued")}
    replicas |= {"ray_calm_replica_first_chunk_seconds_bucket"}
    names = set(re.findall(r"\b(?:ray_)?(?:calm|process)_[a-z_]+", expressions))
    assert names and {name for name in names - replicas if name not in exported} == set()
