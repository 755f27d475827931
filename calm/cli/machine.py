"""Commands about this machine and other machines that host the page."""

import json
from argparse import ArgumentParser, Namespace
from dataclasses import asdict

from ..errors import CalmError
from .options import Command, print_json


def doctor(arguments: Namespace) -> int:
    """Check what this machine has and what the library will use. The exit code is 1 if a check failed."""
    from ..doctor import examine, summary

    checks = examine(arguments.port)
    if arguments.json:
        print_json({"status": summary(checks), "checks": checks})
    else:
        for check in checks:
            print(f"{check.status:8} {check.name}: {check.message}")
            if check.remedy:
                print(f"{'':8} {check.remedy}")
    return int(summary(checks) == "error")


def doctor_options(parser: ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=7860, help="port of the page (default: 7860)")


def deploy(arguments: Namespace) -> None:
    """Upload the page as a Hugging Face Space. Without --yes, only list what would be uploaded."""
    from ..hub import spaces

    space = spaces.plan(arguments.repository, arguments.hardware, dict(map(_variable, arguments.variable)))
    url = spaces.deploy(space) if arguments.yes else space.url
    if arguments.json:
        print_json({**asdict(space), "url": url, "uploaded": arguments.yes})
        return
    for path, size in space.files.items():
        print(f"{size:12,} {path}")
    print(f"{space.total_bytes:12,} bytes in {len(space.files)} files")
    print(f"front matter of README.md:\n{space.front_matter}", end="")
    print(f"hardware {space.hardware}: {space.account}")
    if space.variables:
        print(f"variables: {json.dumps(space.variables)}")
    print(url if arguments.yes else f"nothing was uploaded; add --yes to upload to {arguments.repository}")


def _variable(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise CalmError(f"A variable is written KEY=VALUE, not {text!r}.")
    return key, value


def deploy_options(parser: ArgumentParser) -> None:
    parser.add_argument("host", choices=["space"], help="where the page will run")
    parser.add_argument("repository", help="OWNER/NAME of the Space")
    parser.add_argument(
        "--hardware", default="cpu", help="cpu, zero, t4, l4, a10g or a flavor of the Hub (default: cpu)"
    )
    parser.add_argument(
        "--variable", action="append", default=[], metavar="KEY=VALUE", help="environment variable (repeatable)"
    )
    parser.add_argument("--yes", action="store_true", help="upload the files")


COMMANDS: dict[str, Command] = {"doctor": (doctor, doctor_options), "deploy": (deploy, deploy_options)}
