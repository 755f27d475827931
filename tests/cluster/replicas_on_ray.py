"""Replicas on Ray, which this module starts and stops on this machine: some are killed, replaced and removed.

``make cluster`` runs it, and ``make test`` does not (CONTRIBUTING.md).
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
from gradio_client import Client

import calm
from app.backends.ray import RayBackend
from app.limits import EVALUATION_SAMPLES
from benchmarks.processes import ready_replicas
from calm import storyland

from ..running_page import running_page

PROMPT = "Once upon a time"
SLOW = calm.GenerationOptions(0.7, 48, 1000, "pooled", 5)
"""Steps of many draws, so that the text is far from its end when its replica is lost."""
SERVE = "import sys, calm.serving.deployment; from calm.cli import main; sys.stdin.readline(); main(sys.argv[1:])"
"""The command line, which waits for a line after its imports."""
LOGS = Path("/tmp/ray/session_latest/logs/serve")


def ignore(*_):
    """Stands for the functions that a backend calls which loads models into this process."""


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """A cluster with two replicas, and a page that computes on it. Both start at once, because each of their processes
    imports for seconds on one core."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0", "RAY_metrics_report_interval_ms": "500"}
    import ray

    from calm.serving import deployment

    deployment.HEALTH_SECONDS = 1.0  # between two reports of figures
    deployment.MAX_QUEUED = 4  # two replicas and their queues are full with 52 requests
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=80_000_000)
    log = tmp_path_factory.mktemp("page") / "log"
    variables = {"CALM_BACKEND": "ray", "CALM_RAY_ADDRESS": ray.get_runtime_context().gcs_address}
    try:
        with ThreadPoolExecutor() as threads, log.open("w") as lines:
            scale = deployment.Scale(2, 2, num_cpus=0.5, drain_seconds=0.1)
            starting = threads.submit(deployment.start, ["story-k4"], scale, device="cpu")
            with running_page(lines, CALM_LOG_FORMAT="json", **variables) as (address, _):
                starting.result()
                yield SimpleNamespace(cluster=ray, page=address, log=log)
    finally:
        deployment.stop()


@pytest.fixture
def model(ray):
    backend = RayBackend()
    return backend.model("story-k4", backend.load("story-k4", ignore, ignore), None)


@pytest.fixture(scope="module")
def alone(story):
    """The steps of the text without any loss."""
    return [(step.token_ids, step.text) for step in calm.stream(story, PROMPT, SLOW)]


def texts_during(model, count, change):
    """The steps of texts that are generated at once. ``change`` is called when the first chunk of each has arrived."""
    streams = [(event for event in model.stream(PROMPT, SLOW) if isinstance(event, calm.Step)) for _ in range(count)]
    with ThreadPoolExecutor(count + 1) as threads:
        first = list(threads.map(next, streams))
        changing = threads.submit(change)
        rest = list(threads.map(list, streams))
        changing.result()
    return [[(step.token_ids, step.text) for step in (one, *more)] for one, more in zip(first, rest, strict=True)]


def eventually(condition):
    """The first result of a function that is true."""
    for _ in range(300):
        if result := condition():
            return result
        time.sleep(0.1)
    raise AssertionError("the condition did not hold within 30 seconds")


def test_a_text_survives_kill_9(model, alone):
    processes = ready_replicas()
    assert len(processes) == 2
    assert texts_during(model, 2, lambda: os.kill(processes[0], signal.SIGKILL)) == [alone, alone]
    assert model.client.losses


def test_the_page_computes_on_the_cluster(ray, story):
    page = Client(ray.page, verbose=False)
    text = "".join(step.text for step in calm.generate(story, PROMPT, 0.5, 48, seed=3))
    assert page.predict(PROMPT, 0.5, 48, 3, api_name="/generate")["text"] == PROMPT + text
    job = page.submit(PROMPT, 0.7, 512, 3, "pooled", 1500, api_name="/generate")
    eventually(job.outputs)
    job.cancel()
    assert page.predict("Mia lost her kite.", 0.0, 0, api_name="/reconstruct")["token_accuracy"] == 1.0
    with pytest.raises(Exception, match="no text to reconstruct"):
        page.predict("", 0.0, 0, api_name="/reconstruct")
    texts = list(storyland.stories("validation", 2))
    score = page.predict("\n\n".join(texts), 0, api_name="/evaluate")["score"]
    assert score == pytest.approx(calm.brier_lm(story, texts, seed=0, samples=EVALUATION_SAMPLES).score, abs=0.01)

    def figures() -> str:
        port = ray.cluster.nodes()[0]["MetricsExportPort"]
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()

    eventually(lambda: re.search(r'^ray_calm_replica_steps\{.*model="story-k4".*\} [1-9]', figures(), re.MULTILINE))
    idle = r'^ray_calm_replica_active\{.*model="story-k4".*\} 0\.0'
    eventually(lambda: re.search(idle, figures(), re.MULTILINE))  # the stopped text has left its slot
    first_chunks = r'^ray_calm_replica_first_chunk_seconds_bucket\{.*model="story-k4".*replica=".*\} [1-9]'
    eventually(lambda: re.search(first_chunks, figures(), re.MULTILINE))
    memory = r'^ray_calm_replica_memory_bytes\{.*model="story-k4".*replica=".*\} [1-9]'
    eventually(lambda: re.search(memory, figures(), re.MULTILINE))

    lines = [json.loads(line) for line in ray.log.read_text().splitlines() if line.startswith("{")]
    ids = {line["request_id"] for line in lines if line.get("event") == "generate"}
    replicas = "".join(path.read_text() for path in LOGS.glob("replica_*.log"))
    assert ids and all(f"Request {request_id}: starts after 0 steps." in replicas for request_id in ids)


def test_requests_beyond_the_queues_are_refused_in_a_sentence(model):
    def text(_):
        try:
            return len(list(model.stream(PROMPT, calm.GenerationOptions(0.7, 16, 200, "pooled"))))
        except calm.CalmError as error:
            return str(error)

    with ThreadPoolExecutor(64) as threads:
        results = list(threads.map(text, range(64)))
    refused = [result for result in results if isinstance(result, str)]
    assert refused and len(refused) < len(results)
    assert all(sentence.startswith("All replicas of story-k4 are busy: try again in") for sentence in refused)


def test_draws_and_measurements_are_those_of_the_library(model, story):
    prefix = [next(calm.stream(story, PROMPT, SLOW)).token_ids]
    assert model.device == "cpu of a Ray cluster"
    assert model.draw_pool(PROMPT, prefix, 50) == calm.draw_pool(story, PROMPT, prefix, 50)
    assert len(list(model.robustness("A fox.", [0.0, 1.0], 0))) == 2


def test_texts_survive_fewer_replicas_an_update_and_the_end_of_the_command(ray, model, alone):
    from calm.serving import deployment

    options = ["--address", ray.cluster.get_runtime_context().gcs_address, "--model", "story-k4", "--cpus", "0.4"]
    arguments = [sys.executable, "-c", SERVE, "serve", "--ray", "--json", *options]
    command = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def fewer():
        deployment.start(["story-k4"], deployment.Scale(1, 1, num_cpus=0.5), device="cpu")

    def update():
        command.stdin.write("\n")
        command.stdin.flush()
        assert json.loads(command.stdout.readline())["replicas"] == [1, 1]

    eventually(lambda: len(ready_replicas()) == 2)  # the killed replica has been replaced
    losses = model.client.losses
    assert texts_during(model, 2, fewer) == [alone, alone]
    assert model.client.losses > losses  # no replica had the time to finish its text; from now on, each has 30 seconds
    losses = model.client.losses
    assert texts_during(model, 1, update) == [alone]
    assert texts_during(model, 1, command.terminate) == [alone]
    assert command.wait(60) == 0 and model.client.losses == losses
