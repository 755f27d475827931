"""Replicas on Ray, which this module starts and stops on this machine: one is killed in the middle of a text.

``make cluster`` runs it. ``make test`` does not, because Ray takes longer to install and start than the budget allows.
"""

import os
import signal
from pathlib import Path

import pytest

import calm
from app.backends.ray import RayBackend

PROMPT = "Once upon a time"
SLOW = calm.GenerationOptions(0.7, 48, 1500, "pooled", 5)
"""Steps of many draws, so that the text is far from its end when its replica is killed."""


def ignore(*_):
    """Stands for the functions that a backend calls which loads models into this process."""


@pytest.fixture(scope="module")
def model():
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    import ray

    from calm.serving import deployment

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
    try:
        deployment.start(["story-k4"], deployment.Scale(2, 2, num_cpus=0.5), device="cpu")
        backend = RayBackend()
        yield backend.model("story-k4", backend.load("story-k4", ignore, ignore), None)
    finally:
        deployment.stop()


def replica_processes() -> list[int]:
    """The ids of the processes of replicas, by the titles that Ray gives them."""
    titles = {int(path.parent.name): path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")}
    return sorted(number for number, title in titles.items() if b"ServedReplica" in title)


def test_a_text_survives_kill_9_and_a_smaller_number_of_replicas(model, story):
    from calm.serving import deployment

    alone = [(step.token_ids, step.text) for step in calm.stream(story, PROMPT, SLOW)]
    processes, steps = replica_processes(), []
    assert len(processes) == 2
    events = model.stream(PROMPT, SLOW, "visitor")
    for event in events:
        if isinstance(event, calm.Step):
            steps.append((event.token_ids, event.text))
            if not model.client.losses and processes:  # until the replica of this text is lost
                os.kill(processes.pop(), signal.SIGKILL)
    assert steps == alone and model.client.losses

    events = model.stream(PROMPT, SLOW)
    steps = [next(event for event in events if isinstance(event, calm.Step))]
    deployment.start(["story-k4"], deployment.Scale(num_cpus=0.5, drain_seconds=0.1), device="cpu")
    steps += [event for event in events if isinstance(event, calm.Step)]
    assert [(step.token_ids, step.text) for step in steps] == alone


def test_the_page_computes_on_the_cluster(model, story):
    from app.payloads.runs import Run

    options = calm.GenerationOptions(0.5, 16, seed=1)
    run, local = Run(model, PROMPT, options), list(calm.stream(story, PROMPT, options))
    for event in model.stream(PROMPT, options):
        run.add(event)
    assert [step["token_ids"] for step in run.payload["steps"]] == [step.token_ids for step in local]
    assert model.device == "cpu of a Ray cluster"
    prefix = [local[0].token_ids]
    assert model.draw_pool(PROMPT, prefix, 50) == calm.draw_pool(story, PROMPT, prefix, 50)
    with pytest.raises(calm.CalmError, match="no text to reconstruct"):
        model.reconstruct("", 0.0, 0)
    assert len(list(model.robustness("A fox.", [0.0, 1.0], 0))) == 2
