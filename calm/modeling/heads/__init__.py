"""The generative heads of CALM. ``head_class`` chooses one by the name in the configuration (``CalmConfig.head``)."""

from ...errors import CalmError
from .base import GenerativeHead
from .diffusion import DiffusionHead
from .energy import EnergyHead
from .flow import FlowHead

HEADS: dict[str, type[GenerativeHead]] = {"energy": EnergyHead, "diffusion": DiffusionHead, "flow": FlowHead}


def head_class(name: str) -> type[GenerativeHead]:
    """The class of the head with this name. Raises CalmError for an unknown name."""
    if name not in HEADS:
        raise CalmError(f"The head must be one of {', '.join(HEADS)}, not {name!r}.")
    return HEADS[name]
