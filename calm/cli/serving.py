"""The command that serves models by replicas."""

import signal
import threading
from argparse import ArgumentParser, Namespace
from typing import NoReturn

from ..errors import CalmError
from .options import MODEL, Command, print_json

DEFAULT_MODELS = ["story-k4", "story-ar"]


def serve(arguments: Namespace) -> None:
    """Serve models with replicas on a Ray cluster, until Ctrl-C or SIGTERM. CALM_BACKEND=ray lets the page use them."""
    if not arguments.ray:
        raise CalmError("Replicas run on Ray: add --ray. python app.py starts the page without replicas.")
    from ..serving import deployment

    models = arguments.model or DEFAULT_MODELS
    low, _, high = arguments.replicas.partition(":")
    try:
        bounds = int(low), int(high or low)
    except ValueError:
        raise CalmError(f"Replicas are a number or MIN:MAX, not {arguments.replicas!r}.") from None
    scale = deployment.Scale(*bounds, num_cpus=arguments.cpus, num_gpus=arguments.gpus)
    deployment.connect(arguments.address)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _end)  # after connect, because Ray sets a handler of its own
    try:
        deployment.start(models, scale, shared=arguments.shared)
        if arguments.json:
            print_json({"models": models, "replicas": bounds})
        else:
            print("The replicas are ready. The page uses them with CALM_BACKEND=ray python app.py. Ctrl-C ends them.")
        threading.Event().wait()
    finally:
        deployment.stop()


def _end(*_: object) -> NoReturn:
    """Ends the command as it is meant to end, so the exit code is 0. A second signal ends the process at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    raise SystemExit(0)


def serve_options(parser: ArgumentParser) -> None:
    parser.add_argument("--ray", action="store_true", help="run the replicas on Ray Serve")
    parser.add_argument("--address", help="address of the cluster (default: a new one on this machine)")
    parser.add_argument(
        "--model", action="append", help=f"{MODEL} (repeatable; default: {' and '.join(DEFAULT_MODELS)})"
    )
    parser.add_argument("--replicas", default="1", help="number of replicas of each model, or MIN:MAX (default: 1)")
    parser.add_argument("--cpus", type=float, default=1.0, help="CPU cores of a replica (default: 1)")
    parser.add_argument("--gpus", type=float, default=0.0, help="GPUs of a replica; may be a fraction (default: 0)")
    parser.add_argument("--shared", action="store_true", help="load any model into shared replicas when it is used")


COMMANDS: dict[str, Command] = {"serve": (serve, serve_options)}
