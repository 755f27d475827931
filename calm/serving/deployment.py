"""Replicas on Ray Serve: one application for each model, or one that several models share where memory is short."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import sys
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any
from weakref import WeakValueDictionary

from .. import tracing
from ..engine import ComputeThread
from ..engine.head import SLOTS
from ..errors import CalmError, reason_of
from ..statistics import FIRST_CHUNK_BOUNDS, STATISTICS
from .client import NoReplica, Overloaded, ReplicaLost
from .replica import AT_ONCE, RESPONSE_SECONDS, Replica, process_figures

try:
    import ray
    from ray import serve
    from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, RayTaskError, WorkerCrashedError
    from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
    from ray.serve.metrics import Gauge, Histogram
    from ray.serve.schema import ApplicationStatus, DeploymentStatusTrigger, LoggingConfig
except ImportError as error:
    raise CalmError("Ray is not installed: run pip install 'calm-playground[cluster]'.") from error

SHARED = "calm-shared"
"""The application of models that share replicas."""
MAX_QUEUED = 32
"""Requests of one page that wait in front of the replicas of a model."""
HEALTH_SECONDS = 10.0
UPSCALE_SECONDS = 5.0
"""For so long the requests must exceed the slots before Ray adds a replica. Ray's default is 30 seconds."""
POLL_SECONDS = 0.1
ROOM_SECONDS = 1.0
"""Between two checks whether a model has left the memory."""
SWITCH_SECONDS = 0.0005
"""For so long a thread of a replica runs Python code before another one may. Python's default is 5 milliseconds, nearly
as long as a step. The compute thread gives up its turn for every kernel and waits to continue."""
LOCAL_CLUSTER = {
    "RAY_worker_niceness": "0",  # Ray's default of 15 starves replicas on a busy machine
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.5",  # the controller shares the cores with the replicas
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",  # the methods of a replica only wait
}
"""Environment variables of a cluster that ``connect`` starts on this machine."""
LOST = (RayActorError, WorkerCrashedError, NodeDiedError, ObjectLostError, RequestCancelledError)
"""What Ray raises in a request whose replica has ended."""


@dataclass(frozen=True)
class Scale:
    """How many replicas there are, and what each of them gets."""

    min_replicas: int = 1
    max_replicas: int = 1
    num_cpus: float = 1.0
    num_gpus: float = 0.0
    """A fraction below 1 lets several replicas share a GPU."""
    drain_seconds: float = 30.0
    """Seconds in which a replica that is stopped may finish its texts. Others continue the rest."""
    downscale_seconds: float = 600.0
    """For so long the requests must fit into fewer replicas before Ray removes one."""
    models_per_replica: int = 2
    """Of models that share replicas: how many a replica keeps in memory. The one that was used longest ago leaves."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_replicas <= self.max_replicas:
            raise CalmError(f"Replicas need 1 <= minimum <= maximum, not {self.min_replicas} and {self.max_replicas}.")

    def options(self) -> dict[str, Any]:
        """Options of a deployment."""
        count: dict[str, Any] = {"num_replicas": self.min_replicas}
        if self.min_replicas < self.max_replicas:
            bounds = {"min_replicas": self.min_replicas, "max_replicas": self.max_replicas}
            delays = {"upscale_delay_s": UPSCALE_SECONDS, "downscale_delay_s": self.downscale_seconds}
            count = {"autoscaling_config": {**bounds, **delays, "target_ongoing_requests": SLOTS}}
        return {
            **count,
            "ray_actor_options": {"num_cpus": self.num_cpus, "num_gpus": self.num_gpus},
            "max_ongoing_requests": AT_ONCE,
            "max_queued_requests": MAX_QUEUED,
            "health_check_period_s": HEALTH_SECONDS,
            "health_check_timeout_s": 2 * RESPONSE_SECONDS,
            "graceful_shutdown_timeout_s": self.drain_seconds,
            "graceful_shutdown_wait_loop_s": 0.5,
        }


def _prepare_process() -> None:
    """Writes the library's lines into the log file of this replica, where Ray writes only those of its own logger, and
    lets the threads of messages take turns with the compute thread more often. Traces requests if the OTEL_ variables
    ask for it."""
    sys.setswitchinterval(SWITCH_SECONDS)
    library = logging.getLogger("calm")
    library.handlers = logging.getLogger("ray.serve").handlers  # the same list, so that changes of Ray apply
    library.setLevel(logging.INFO)
    tracing.configure("calm-replica")


class Figures:
    """Figures of a replica that Ray exports for Prometheus, as ``ray_calm_replica_NAME``."""

    def __init__(self, model: str) -> None:
        """Begins to report the times to the first chunk, as those of this model."""
        self._gauges: dict[str, Gauge] = {}
        histogram = Histogram(
            "calm_replica_first_chunk_seconds", boundaries=list(FIRST_CHUNK_BOUNDS), tag_keys=("model",)
        )
        STATISTICS.on_first_chunk.append(lambda seconds: histogram.observe(seconds, {"model": model}))

    def set(self, model: str, figures: Mapping[str, int]) -> None:
        for name, value in figures.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"calm_replica_{name}", tag_keys=("model",))
            self._gauges[name].set(value, {"model": model})


class ServedReplica(Replica):
    """A replica that reports its figures to Ray."""

    def __init__(self, model: str, device: str | None = None):
        _prepare_process()
        super().__init__(model, device)
        self.figures = Figures(self.lm.name)

    async def check_health(self) -> None:
        """Ray calls this every ten seconds, so the figures are as old at most."""
        await super().check_health()
        self.figures.set(self.lm.name, {**self.load_figures(), **process_figures()})


class SharedReplica:
    """Several models behind the methods of ``Replica``; the request names its model."""

    def __init__(self, models_per_replica: int, device: str | None = None):
        _prepare_process()
        self.figures, self.executor = Figures(SHARED), ComputeThread()
        self.loaded: WeakValueDictionary[str, Replica] = WeakValueDictionary()
        self.names: set[str] = set()
        """The models that have been loaded, those included that have left the memory."""
        self.loading = 0

        async def load(name: str) -> Replica:  # Ray keeps the loaded models as attributes of this function
            # Ray drops the model that was used least recently, even while it generates.
            if (replica := self.loaded.get(name)) is not None:
                return replica
            while len(self.loaded) >= models_per_replica:
                gc.collect()
                await asyncio.sleep(ROOM_SECONDS)
            self.loading += 1
            try:
                replica = await asyncio.to_thread(Replica, name, device, self.executor)
            finally:
                self.loading -= 1
            self.names.add(name)
            self.loaded[name] = replica
            return replica

        self._models = serve.multiplexed(load, max_num_models_per_replica=models_per_replica)

    async def _replica(self) -> Replica:
        return await self._models(serve.get_multiplexed_model_id())

    async def check_health(self) -> None:
        """As ``ServedReplica.check_health``. The totals are those of all models."""
        if not self.loading:  # which occupies the compute thread
            await asyncio.wait_for(asyncio.wrap_future(self.executor.submit(int)), RESPONSE_SECONDS)
        for name in self.names:
            replica = self.loaded.get(name)
            self.figures.set(name, replica.load_figures() if replica else {"active": 0, "queued": 0})
        self.figures.set(SHARED, process_figures())

    async def generate(self, *arguments: Any) -> AsyncGenerator:
        async for message in (await self._replica()).generate(*arguments):
            yield message

    async def compute(self, *arguments: Any) -> AsyncGenerator:
        async for message in (await self._replica()).compute(*arguments):
            yield message


def application_name(model: str) -> str:
    """The name of a model's application."""
    return f"calm-{model.replace('/', '--')}"


def build(arguments: Mapping[str, Any]) -> serve.Application:
    """The application of a Serve config: ``model``, or ``shared: true``, with the fields of ``Scale`` and ``device``.

    Raises CalmError for other arguments.
    """
    known = {field.name for field in fields(Scale)}
    if unknown := set(arguments) - known - {"model", "shared", "device"}:
        raise CalmError(f"A deployment has no setting {', '.join(sorted(unknown))}.")
    scale = Scale(**{name: value for name, value in arguments.items() if name in known})
    device = arguments.get("device")
    if arguments.get("shared"):
        return serve.deployment(**scale.options())(SharedReplica).bind(scale.models_per_replica, device)
    return serve.deployment(**scale.options())(ServedReplica).bind(str(arguments["model"]), device)


def connect(address: str | None) -> None:
    """Connects this process to a cluster, or starts one on this machine without an address. Raises CalmError."""
    if ray.is_initialized():
        return
    if not address:
        for variable, value in LOCAL_CLUSTER.items():
            os.environ.setdefault(variable, value)
    try:
        ray.init(address=address or "local", log_to_driver=False, include_dashboard=False if not address else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address:
            raise CalmError(f"There is no Ray cluster at {address}: start one with ray start --head.") from error
        raise CalmError(f"Ray could not start a cluster on this machine: {reason_of(error)}") from error


def start(models: Sequence[str], scale: Scale, device: str | None = None, shared: bool = False) -> None:
    """Starts replicas of models, or updates running ones. Returns when they can generate.

    Raises CalmError if replicas cannot start, for example because a model cannot be loaded.
    """
    serve.start(
        proxy_location="Disabled",
        logging_config=LoggingConfig(encoding="JSON", log_level="INFO", enable_access_log=False),
    )
    if shared:
        targets = {SHARED: build({**asdict(scale), "shared": True, "device": device})}
    else:
        targets = {application_name(name): build({**asdict(scale), "model": name, "device": device}) for name in models}
    applications = [serve.RunTarget(app, name=name, route_prefix=None) for name, app in targets.items()]
    serve.run_many(applications, wait_for_applications_running=False)
    for name in targets:
        _wait_until_running(name)


def _wait_until_running(name: str) -> None:
    while (application := serve.status().applications[name]).status != ApplicationStatus.RUNNING:
        if application.status == ApplicationStatus.DEPLOY_FAILED:
            for deployment in application.deployments.values():
                # Ray also reports a failure when a replica dies during an update, until another one replaces it.
                if deployment.status_trigger != DeploymentStatusTrigger.HEALTH_CHECK_FAILED:
                    reason = deployment.message.strip().splitlines()[-1]
                    raise CalmError(f"The replicas of {name} cannot start: {reason}")
        time.sleep(POLL_SECONDS)


def stop() -> None:
    """Ends all replicas and leaves the cluster. Running texts have 30 seconds to finish; new ones are refused."""
    serve.shutdown()
    ray.shutdown()


class ServeReplicas:
    """The replicas of a model on the cluster to which this process is connected."""

    def __init__(self, model: str):
        """Raises CalmError if none are deployed."""
        running = serve.status().applications
        name = next((name for name in (application_name(model), SHARED) if name in running), None)
        if name is None:
            raise CalmError(f"No replicas of {model} run on this cluster: start them with calm serve --ray.")
        options: dict[str, Any] = {"multiplexed_model_id": model} if name == SHARED else {}
        self.handle = serve.get_app_handle(name).options(stream=True, **options)

    def stream(self, method: str, *arguments: Any) -> Generator[Any, None, None]:
        response, complete = getattr(self.handle, method).remote(*arguments), False
        try:
            yield from response
            complete = True
        except LOST as error:
            raise ReplicaLost from error
        except BackPressureError as error:
            raise Overloaded from error
        except RayServeException as error:
            raise NoReplica from error
        except RayTaskError as error:  # a shared replica could not load the model
            if isinstance(error.cause, CalmError):
                raise CalmError(str(error.cause)) from error  # the text of Ray's error is a traceback
            raise
        finally:
            if not complete:
                with suppress(Exception):  # it raises once more what the request has raised
                    response.cancel()
