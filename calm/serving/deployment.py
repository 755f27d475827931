"""Replicas on Ray Serve: one application for each model, or one that several models share where memory is short."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..engine.head import SLOTS
from ..errors import CalmError
from .client import Overloaded, ReplicaLost
from .replica import AT_ONCE, RESPONSE_SECONDS, Replica, engine_totals

try:
    import ray
    from ray import serve
    from ray.exceptions import NodeDiedError, ObjectLostError, RayActorError, WorkerCrashedError
    from ray.serve.exceptions import BackPressureError, RayServeException, RequestCancelledError
    from ray.serve.schema import LoggingConfig
    from ray.util.metrics import Gauge
except ImportError as error:
    raise CalmError("Ray is not installed: run pip install 'calm-playground[cluster]'.") from error

SHARED = "calm-shared"
"""The application of models that share replicas."""
MAX_QUEUED = 32
"""Requests of one page that wait in front of the replicas of a model."""
HEALTH_SECONDS = 10.0
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
            count = {"autoscaling_config": {**bounds, "target_ongoing_requests": SLOTS}}
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


def _write_to_replica_log() -> None:
    """Writes the library's lines into the log file of this replica. Ray writes only those of its own logger."""
    library = logging.getLogger("calm")
    library.handlers = logging.getLogger("ray.serve").handlers  # the same list, so that changes of Ray apply
    library.setLevel(logging.INFO)


class ServedReplica(Replica):
    """A replica that reports its figures to Ray."""

    def __init__(self, model: str, device: str | None = None):
        _write_to_replica_log()
        self.gauges: dict[str, Gauge] = {}
        super().__init__(model, device)

    async def check_health(self) -> None:
        """Ray calls this every ten seconds, so the figures are as old at most."""
        await super().check_health()
        for name, value in {**self.load_figures(), **engine_totals()}.items():
            if name not in self.gauges:
                self.gauges[name] = Gauge(f"calm_replica_{name}", tag_keys=("model",))
            self.gauges[name].set(value, {"model": self.lm.name})


class SharedReplica:
    """Several models behind the methods of ``Replica``; the request names its model."""

    def __init__(self, models_per_replica: int, device: str | None = None):
        _write_to_replica_log()

        async def load(name: str) -> Replica:  # Ray keeps the loaded models as attributes of this function
            return Replica(name, device)

        self._models = serve.multiplexed(load, max_num_models_per_replica=models_per_replica)

    async def _replica(self) -> Replica:
        return await self._models(serve.get_multiplexed_model_id())

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
        return serve.deployment(SharedReplica).options(**scale.options()).bind(scale.models_per_replica, device)
    return serve.deployment(ServedReplica).options(**scale.options()).bind(str(arguments["model"]), device)


def connect(address: str | None) -> None:
    """Connects this process to a cluster, or starts one on this machine without an address. Raises CalmError."""
    if ray.is_initialized():
        return
    try:
        ray.init(address=address or "local", log_to_driver=False, include_dashboard=False if not address else None)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CalmError(f"There is no Ray cluster at {address}: start one with ray start --head.") from error


def start(models: Sequence[str], scale: Scale, device: str | None = None, shared: bool = False) -> None:
    """Starts replicas of models, or updates running ones. Returns when they can generate."""
    serve.start(proxy_location="Disabled", logging_config=LoggingConfig(encoding="JSON", log_level="INFO"))
    if shared:
        targets = {SHARED: build({**asdict(scale), "shared": True, "device": device})}
    else:
        targets = {application_name(name): build({**asdict(scale), "model": name, "device": device}) for name in models}
    serve.run_many([serve.RunTarget(app, name=name, route_prefix=None) for name, app in targets.items()])


def stop() -> None:
    """Ends all replicas and leaves the cluster."""
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
        response = getattr(self.handle, method).remote(*arguments)
        try:
            yield from response
        except LOST as error:
            raise ReplicaLost from error
        except BackPressureError as error:
            raise Overloaded from error
        except RayServeException as error:  # no replica runs now
            raise ReplicaLost from error
        finally:
            response.cancel()
